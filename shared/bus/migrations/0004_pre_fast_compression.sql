-- An event about a hundred devices is 13 KB of ids, and pglz took longer to pack them than the row
-- takes otherwise. A PostgreSQL that was built without lz4 goes on as before.
DO $$
BEGIN
    ALTER TABLE outbox ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
