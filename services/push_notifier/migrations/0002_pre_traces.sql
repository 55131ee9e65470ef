-- The trace of the work that a channel waits for, where it is recorded: the push belongs to it.
ALTER TABLE channel ADD COLUMN traceparent text;
