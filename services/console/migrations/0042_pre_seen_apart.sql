-- When a device last spoke changes every hour, and on the device's row each time was an entry in all of
-- its indexes (docs/decisions/0066-last-seen-has-a-row-of-its-own.md). Every device that was introduced
-- has a row here; NULL: it never spoke.
CREATE TABLE device_seen (
    device_id    uuid PRIMARY KEY,
    last_seen_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
INSERT INTO device_seen SELECT device_id, last_seen_at FROM device ORDER BY device_id;
CREATE INDEX device_seen_order ON device_seen (last_seen_at, device_id);
DROP INDEX device_by_seen;
ALTER TABLE device DROP COLUMN last_seen_at;
