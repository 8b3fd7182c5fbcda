-- Which ledger this is. Made once, restored with a backup: every snapshot that this deployment publishes carries it.
CREATE TABLE k2_offload.offload_ledger (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    ledger_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO k2_offload.offload_ledger DEFAULT VALUES;
