-- What was done with partitions of ClickHouse that are proven to be cold: moved, held, brought back, dropped.
CREATE TABLE k2_offload.retention_steps (
    step_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    storage       text NOT NULL,      -- database.table in ClickHouse
    partition_id  text NOT NULL,      -- as ClickHouse names it
    days          text NOT NULL,
    step          text NOT NULL,
    rows          bigint NOT NULL,
    at            timestamptz NOT NULL,
    reason        text NOT NULL
);
