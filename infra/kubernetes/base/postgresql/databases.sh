#!/bin/sh
# A database of its own for each user, in UTF-8 whatever the cluster's locale: with SQL_ASCII MLflow's driver gives bytes,
# and MLflow fails. The image runs this once, on an empty volume.
set -eu
psql --username postgres --set ON_ERROR_STOP=1 \
  --set mlflow_password="$MLFLOW_DATABASE_PASSWORD" --set optuna_password="$OPTUNA_DATABASE_PASSWORD" \
  --set backup_password="$BACKUP_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE mlflow_auth OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password';
CREATE DATABASE optuna OWNER optuna ENCODING 'UTF8' TEMPLATE template0;
CREATE ROLE backup LOGIN PASSWORD :'backup_password' IN ROLE pg_read_all_data;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth, optuna, postgres FROM PUBLIC;
GRANT CONNECT ON DATABASE mlflow, mlflow_auth TO backup;
SQL
