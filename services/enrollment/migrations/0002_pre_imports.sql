-- A certificate that was imported without an enrollment: its session hands out no profile, and binds
-- it to the one id it may enroll as.
ALTER TABLE session ADD COLUMN id_kind text CHECK (id_kind IN ('udid', 'enrollment_id'));
ALTER TABLE session ADD COLUMN udid text;
