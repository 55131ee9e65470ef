-- Which profiles Muster installed itself, by device: removing another is the loss of a stranger's. An
-- identifier alone said too much: whoever installs a profile of a stranger's name on one device could
-- have removed the stranger's from all.
CREATE TABLE profile_on_device (
    device_id  uuid NOT NULL,
    identifier text NOT NULL,
    PRIMARY KEY (device_id, identifier)
);
DROP TABLE installed_profile;
