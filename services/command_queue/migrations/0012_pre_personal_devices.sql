-- Who was somebody's own until now: asked with every state of a device that is not.
CREATE INDEX device_personal ON device (device_id) WHERE ownership = 'personal';
