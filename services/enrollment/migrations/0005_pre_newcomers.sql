-- How far it has been looked which newcomers stay without a TokenUpdate (decision 32): the next
-- enrollments are those behind this id. What was there before has been told already.
ALTER TABLE retelling ADD COLUMN newcomers uuid NOT NULL
    DEFAULT '00000000-0000-0000-0000-000000000000';
UPDATE retelling SET newcomers = coalesce(
    (SELECT enrollment_id FROM enrollment ORDER BY enrollment_id DESC LIMIT 1), newcomers);
