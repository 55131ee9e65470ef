-- Who writes an event wrote it as JSON; PostgreSQL read every one again to see that it is.
ALTER TABLE outbox ALTER COLUMN payload TYPE text;
-- A column of another type begins with the usual compression: see 0004.
DO $$
BEGIN
    ALTER TABLE outbox ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
