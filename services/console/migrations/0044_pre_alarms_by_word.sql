-- The newest alarm of each kind: whoever sounds many of one kind must not bury another's.
CREATE INDEX activity_alarm_word ON activity (
    (CASE WHEN kind = 'guard.alarmed' THEN detail ->> 'what' ELSE kind END), activity_id
) WHERE kind IN ('guard.alarmed', 'device.ownership', 'sealed.used', 'provider.changed');
