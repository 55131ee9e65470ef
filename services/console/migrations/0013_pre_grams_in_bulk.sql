-- A device has some 150 grams: put into the index one device at a time they were most of what
-- PostgreSQL did after an enrollment (docs/decisions/0051-grams-are-indexed-in-bulk.md).
ALTER INDEX search_grams SET (fastupdate = on, gin_pending_list_limit = 2048);
