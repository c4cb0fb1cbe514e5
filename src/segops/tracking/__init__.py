"""MLflow: runs, the registry, the ledger. The only package that imports mlflow."""
