-- What the last comparison of a bronze table's messages saw of each partition in the broker. Whatever lay below its end a
-- while ago, and ClickHouse still lacks, is missing: no clock of a producer has to say so.
CREATE TABLE k2_offload.offload_offset_ends (
    table_name       text NOT NULL,
    topic            text NOT NULL,
    partition_number integer NOT NULL,
    read_below       bigint NOT NULL,  -- ClickHouse has had all lower offsets, or nobody can tell
    due_below        bigint NOT NULL,  -- where it ended at the look before, which was old enough
    seen_end         bigint NOT NULL,  -- the offset that the next message was to have
    seen_at          timestamptz NOT NULL,
    PRIMARY KEY (table_name, topic, partition_number)
);
