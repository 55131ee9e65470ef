-- A row stands for one event; one event may be about many devices (decision 40).
ALTER TABLE outbox DROP COLUMN device_ids, DROP COLUMN channel_ids;
