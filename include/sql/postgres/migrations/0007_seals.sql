-- Seals of days: a copy of what the lake's own table of seals says, and what their last verification has found.
CREATE TABLE k2_offload.offload_seals (
    seal_id           text PRIMARY KEY,                 -- a digest of all that it says, but for snapshot and time
    table_name        text NOT NULL,
    table_uuid        text NOT NULL,
    day               date NOT NULL,                    -- UTC
    partition_column  text NOT NULL,                    -- the time that the day is of
    rows              bigint NOT NULL,
    content_hash      numeric(20, 0) NOT NULL,
    columns           text NOT NULL,                    -- JSON: the names and types that the hash is over
    before            text,                             -- the seal that this one follows
    snapshot_id       bigint NOT NULL,                  -- of the cold table, as it was compared
    sealed_at         timestamptz NOT NULL,
    verified_at       timestamptz,
    verified_snapshot bigint,                           -- of the cold table, the last one in which the day was whole
    problem           text                              -- why the last verification has found it broken
);

CREATE INDEX ON k2_offload.offload_seals (table_name, day);
