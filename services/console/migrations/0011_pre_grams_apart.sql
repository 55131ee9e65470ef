-- The index knows the grams; what is read by hand are the words, which must not lie between them.
ALTER TABLE search ALTER COLUMN grams SET STORAGE EXTERNAL;
ALTER TABLE search SET (toast_tuple_target = 128);
