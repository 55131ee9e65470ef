-- That work waits and that none is left come on two topics. ce_sequence says which was said last:
-- of the newest of each, what the channel does now follows the later one.
ALTER TABLE channel ADD COLUMN queued_sequence bigint NOT NULL DEFAULT 0;
ALTER TABLE channel ADD COLUMN emptied_sequence bigint NOT NULL DEFAULT 0;
