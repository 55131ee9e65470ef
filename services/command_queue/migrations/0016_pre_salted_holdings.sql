-- What approvers sign says nothing of a PIN: a digest of a document with six unknown digits is
-- guessed in a second. Encrypted for this row; null: the command holds no secret.
ALTER TABLE holding ADD COLUMN salt bytea;
