-- The static groups a device is in, as inventory tells of them; sequence: of the event that told.
-- Beside the device, not on its row: groups may be ten times as long as what a fan-out reads of it,
-- and only people with rights on some groups ask for them (decision 44).
CREATE TABLE device_scope (
    device_id uuid PRIMARY KEY,
    sequence  bigint NOT NULL,
    groups    uuid[] NOT NULL
);

-- The groups a command was asked for by, where its asker had rights on these only; null: on all
-- devices.
ALTER TABLE command ADD COLUMN reach uuid[];
ALTER TABLE past_command ADD COLUMN reach uuid[];
CREATE OR REPLACE VIEW any_command AS
SELECT command_id, kind, request_type, section, command_class, summary, actor, reason, state,
       hold_reason, priority, target_count, created_at, expires_at, ended_at, ended_by, end_reason,
       reach
FROM command
UNION ALL
SELECT command_id, kind, request_type, section, command_class, summary, actor, reason, state,
       hold_reason, priority, target_count, created_at, expires_at, ended_at, ended_by, end_reason,
       reach
FROM past_command;
