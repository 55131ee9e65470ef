-- Which groups are protected, as inventory tells it. A group of which nothing was told counts as
-- protected.
CREATE TABLE device_group (
    group_id  uuid PRIMARY KEY,
    sequence  bigint NOT NULL,
    protected boolean NOT NULL,
    -- Taking protection away is new power: until then it holds all the same.
    lapses_at timestamptz
);

-- Devices that left a protected group, and until when they count as if they had not.
CREATE TABLE former_protection (
    device_id uuid PRIMARY KEY,
    lapses_at timestamptz NOT NULL
);
CREATE INDEX former_protection_lapses ON former_protection (lapses_at);
