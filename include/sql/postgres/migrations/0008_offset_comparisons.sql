-- What the last comparison of a bronze table's messages has found: broker against ClickHouse against Iceberg.
CREATE TABLE k2_offload.offload_offsets (
    table_name   text PRIMARY KEY,
    compared_at  timestamptz NOT NULL,
    missing      bigint NOT NULL,  -- messages that ClickHouse, bronze or Iceberg lacks
    repeated     bigint NOT NULL,  -- messages that were delivered more than once
    unclear      bigint NOT NULL   -- findings and problems of which no number of messages can be told
);
