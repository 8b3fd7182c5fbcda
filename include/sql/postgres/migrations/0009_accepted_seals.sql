-- Whether a person has accepted the rows of a seal in place of those of the seal before; sealed_at says when.
ALTER TABLE k2_offload.offload_seals ADD COLUMN accepted boolean NOT NULL DEFAULT false;
