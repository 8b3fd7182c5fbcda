#!/bin/sh
# Creates every table and view that is missing, in the order of the scripts' names. Safe at every start.
set -eu
for script in /schema/*.sql; do
    clickhouse-client --host clickhouse --user k2 --password "$CLICKHOUSE_PASSWORD" --database k2 --queries-file "$script"
done
