-- Has a row once a comparison of messages has asked the broker: from then on none goes without it.
CREATE TABLE k2_offload.offload_broker (
    asked_since timestamptz NOT NULL
);
