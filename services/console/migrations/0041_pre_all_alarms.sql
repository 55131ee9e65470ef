-- Alarms of the overview are not the guard's alone: a sealed account that is opened, an identity
-- provider that is changed and a person's own device that is to be the company's are as well.
DROP INDEX activity_alarm;
CREATE INDEX activity_alarm ON activity (activity_id)
    WHERE kind IN ('guard.alarmed', 'device.ownership', 'sealed.used', 'provider.changed');
