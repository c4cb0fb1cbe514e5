"""The search for hyperparameters; nothing else imports Optuna."""
