#!/bin/sh
# Creates the database, and every table and view that is missing, in the order of the scripts' names. Safe at every start.
set -eu

client() {
    clickhouse-client --host clickhouse --user k2_admin --password "$K2_CLICKHOUSE_ADMIN_PASSWORD" "$@"
}

client --query "CREATE DATABASE IF NOT EXISTS k2"
for script in /schema/*.sql; do
    client --database k2 --queries-file "$script"
done
