#!/bin/sh
# restore.sh FOLDER: what dump.sh wrote, into databases that backup.py found empty; one that isn't there is made. Each
# comes whole or not at all.
set -eu
for dump in "$1"/*.dump; do
  database=$(basename "$dump" .dump)
  there=$(psql --tuples-only --no-align --command "SELECT 1 FROM pg_database WHERE datname = '$database'")
  test -n "$there" || createdb --encoding=UTF8 --template=template0 "$database"
  pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname="$database" "$dump"
  echo "$database: restored"
done
