-- The static groups a device is in, as inventory tells of them; groups_sequence: of the event that
-- told. Whoever has rights on some groups only is shown the devices in them (decision 38).
ALTER TABLE device
    ADD COLUMN groups uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN groups_sequence bigint NOT NULL DEFAULT 0;
-- Without those that are in none: a new device costs the index nothing.
CREATE INDEX device_groups ON device USING gin (groups) WHERE groups <> '{}';
