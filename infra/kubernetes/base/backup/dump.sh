#!/bin/sh
# dump.sh FOLDER: a dump of each database in $DATABASES, in this order, by the server that PG.. names.
# Each is one moment of its database. Accounts come before runs: a permission that is newer than the run's dump could be
# given to another experiment of the same number, an experiment without one is only read.
set -eu
umask 077
mkdir -p "$1"
for database in $DATABASES; do
  pg_dump --format=custom --no-owner --no-privileges --file="$1/$database.dump" --dbname="$database"
done
