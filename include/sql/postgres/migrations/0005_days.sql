-- What the last comparison of each partition day has found. A day is replaced whenever it is compared anew.
CREATE TABLE k2_offload.offload_days (
    table_name    text NOT NULL,
    day           date NOT NULL,                        -- of the table's partition column, UTC
    verdict       text NOT NULL,
    compared_at   timestamptz NOT NULL,
    snapshot_id   bigint NOT NULL,                      -- of the cold table, as it was compared
    below         timestamptz NOT NULL,                 -- the watermark of that snapshot: later rows were left out
    warm_rows     bigint NOT NULL,
    cold_rows     bigint NOT NULL,
    late_rows     bigint NOT NULL,                      -- rows that only the warm tier holds
    gone_rows     bigint NOT NULL,                      -- rows that only the cold tier holds
    differs_from  timestamptz,                          -- of the timestamp column: the first differing row
    differs_until timestamptz,                          -- right after the last one
    unequal_since timestamptz,                          -- when a comparison first found it unequal; NULL while it is equal
    problem       text,                                 -- why the day cannot be read, or was not healed
    PRIMARY KEY (table_name, day)
);
