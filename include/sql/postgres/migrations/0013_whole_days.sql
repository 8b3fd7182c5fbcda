-- Whether ClickHouse held the day as a whole when it was compared; with proven retention, no clock says so.
ALTER TABLE k2_offload.offload_days ADD COLUMN whole boolean NOT NULL DEFAULT true;
UPDATE k2_offload.offload_days SET whole = false WHERE problem = 'the warm tier may no longer hold the day as a whole';
