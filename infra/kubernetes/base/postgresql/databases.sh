#!/bin/sh
# A database of its own for each user. The image runs this once, on an empty volume.
set -eu
psql --username postgres --set ON_ERROR_STOP=1 \
  --set mlflow_password="$MLFLOW_DATABASE_PASSWORD" --set optuna_password="$OPTUNA_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password';
CREATE DATABASE optuna OWNER optuna;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth, optuna, postgres FROM PUBLIC;
SQL
