-- A device that is forgotten takes its parts along: they are found by it.
ALTER TABLE answer_part DROP CONSTRAINT answer_part_pkey;
ALTER TABLE answer_part ADD PRIMARY KEY (device_id, command_id, part);
