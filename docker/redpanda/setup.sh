#!/bin/sh
# The topics that docker/clickhouse/10_message_queues.sql reads, and who may use them. Safe at every start; a password that
# was changed in .env is changed here too.
set -eu

# A broker that has just begun to answer may still refuse one thing or another, and what ends here in vain ends the start of
# all that waits for it.
if [ "${1:-}" != once ]; then
    for pause in 1 2 4 8 15; do
        sh "$0" once && exit
        sleep "$pause"
    done
    exec sh "$0" once
fi

user() {
    rpk security user create "$1" --password "$2" --mechanism SCRAM-SHA-256 ||
        rpk security user update "$1" --new-password "$2" --mechanism SCRAM-SHA-256
}

for topic in k2.trades.binance k2.trades.kraken; do
    rpk topic list | grep --quiet "^$topic " || rpk topic create "$topic" --partitions 1
done

# ClickHouse reads, and writes what is inserted into its queue tables.
user k2_clickhouse "$K2_BROKER_CLICKHOUSE_PASSWORD"
rpk security acl create --allow-principal User:k2_clickhouse \
    --operation read --operation write --operation describe --topic k2.trades. --resource-pattern-type prefixed
rpk security acl create --allow-principal User:k2_clickhouse \
    --operation read --operation describe --group k2_clickhouse_ --resource-pattern-type prefixed

# For those who bring messages from outside.
user k2_producer "$K2_BROKER_PRODUCER_PASSWORD"
rpk security acl create --allow-principal User:k2_producer \
    --operation write --operation describe --topic k2.trades. --resource-pattern-type prefixed

# For who compares what has arrived with what was sent: reads, joins no group, writes nothing.
user k2_verify "$K2_BROKER_VERIFY_PASSWORD"
rpk security acl create --allow-principal User:k2_verify \
    --operation read --operation describe --operation describe_configs --topic k2.trades. --resource-pattern-type prefixed
rpk security acl create --allow-principal User:k2_verify --operation read --group k2_verify
