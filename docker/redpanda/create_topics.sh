#!/bin/sh
# Creates the topics that docker/clickhouse/10_message_queues.sql reads. Safe at every start.
set -eu
for topic in k2.trades.binance k2.trades.kraken; do
    rpk topic describe "$topic" > /dev/null 2>&1 || rpk topic create "$topic" --partitions 1
done
