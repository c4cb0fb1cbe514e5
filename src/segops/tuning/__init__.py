"""Searches for hyperparameters; nothing else imports Optuna."""
