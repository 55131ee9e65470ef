-- Grams lay between the words that a search reads by hand, and made a row five times as wide: rows
-- shorter than 2 kB are not taken apart, whatever the table says. Only the index keeps them now
-- (docs/decisions/0069-the-index-alone-keeps-grams.md).
DROP INDEX search_grams;
ALTER TABLE search DROP COLUMN grams;
ALTER TABLE search RESET (toast_tuple_target);
-- Worked out row by row they take 0.1 ms: no plan may prefer that to the index.
ALTER FUNCTION grams(text) COST 1000;
CREATE INDEX search_grams ON search USING gin (grams(words))
    WITH (fastupdate = on, gin_pending_list_limit = 2048);
-- ANALYZE would work them out for 30,000 rows, and nothing asks what it finds.
ALTER INDEX search_grams ALTER COLUMN 1 SET STATISTICS 0;
