-- Until when a webhook that was switched off is told of alarms all the same: a thief who makes power
-- for themselves must not be able to send the guards home first (decision 58).
ALTER TABLE webhook ADD COLUMN alarms_until timestamptz NOT NULL DEFAULT '-infinity';
-- The latest alarms, for the overview.
CREATE INDEX activity_alarm ON activity (activity_id) WHERE kind = 'guard.alarmed';
