#!/bin/sh
# Brings the metadata database up to date and sets the UI's password. Safe at every start.
set -eu
umask 077
airflow db migrate
python -c 'import json, os; print(json.dumps({"admin": os.environ["K2_AIRFLOW_PASSWORD"]}))' \
    > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
