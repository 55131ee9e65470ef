-- Most devices are in no group and have no tag: what changes of them needs no entry here. Whoever looks
-- for devices by group or tag says so (groups <> '{}'), or these are not used.
DROP INDEX device_groups;
CREATE INDEX device_groups ON device USING gin (groups) WITH (fastupdate = off) WHERE groups <> '{}';
DROP INDEX device_tags;
CREATE INDEX device_tags ON device USING gin (tags) WITH (fastupdate = off) WHERE tags <> '{}';
