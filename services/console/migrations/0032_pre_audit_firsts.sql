-- From which position on a chain is kept. Roots are signed over it as well: whoever deletes the
-- beginning of a chain without saying so is found (decision 55).
ALTER TABLE audit_chain ADD COLUMN first bigint NOT NULL DEFAULT 1;
ALTER TABLE audit_root_head ADD COLUMN first bigint NOT NULL DEFAULT 1;
