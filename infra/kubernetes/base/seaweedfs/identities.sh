#!/bin/sh
# Who may do what, as `weed -s3.config` reads it. An access key is its identity's name; keys are hexadecimal.
set -eu
umask 077
identity() {  # name, key, actions
  printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' "$1" "$1" "$2" "$3"
}
on() {  # bucket, actions
  bucket=$1 list=
  shift
  for action in "$@"; do list="$list${list:+, }\"$action:$bucket\""; done
  printf '%s' "$list"
}
{
  printf '{"identities": [\n'
  identity admin "$S3_ADMIN_KEY" '"Admin"'
  printf ',\n'
  identity mlflow "$S3_MLFLOW_KEY" "$(on mlflow Read Write List Tagging)"
  printf ',\n'
  identity datasets "$S3_DATASETS_KEY" "$(on datasets Read Write List Tagging)"
  printf ',\n'
  identity pipeline "$S3_PIPELINE_KEY" "$(on datasets Read List)"
  printf ',\n'
  identity backup "$S3_BACKUP_KEY" "$(on mlflow Read List), $(on datasets Read List)"
  printf '\n]}\n'
} > "$1"
