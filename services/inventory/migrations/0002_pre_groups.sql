-- Static groups: scopes of people's rights. Members are named by people only (decision 44).

-- members: how many, kept under the row's lock. deleted_at: nobody sees it any more. dissolved_at:
-- its last member has left, and the others were told.
CREATE TABLE device_group (
    group_id     uuid PRIMARY KEY,
    name         text NOT NULL,
    description  text,
    protected    boolean NOT NULL DEFAULT false,
    members      integer NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL,
    created_by   text NOT NULL,
    changed_at   timestamptz NOT NULL,
    changed_by   text NOT NULL,
    deleted_at   timestamptz,
    dissolved_at timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX device_group_name ON device_group (lower(name)) WHERE deleted_at IS NULL;
CREATE INDEX device_group_dissolving ON device_group (deleted_at)
    WHERE deleted_at IS NOT NULL AND dissolved_at IS NULL;

-- The only word on who is in a group; written under the device row's lock, then the group's.
CREATE TABLE membership (
    device_id uuid NOT NULL,
    group_id  uuid NOT NULL,
    added_at  timestamptz NOT NULL,
    added_by  text NOT NULL,
    PRIMARY KEY (device_id, group_id)
);
CREATE INDEX membership_group ON membership (group_id, device_id);

-- Devices that are or were in a group: what others know of them is told anew, also that they are in
-- none.
CREATE TABLE grouped_device (device_id uuid PRIMARY KEY);

-- How far the round has come in which groups are told anew: the next are those behind these ids.
CREATE TABLE retelling (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    device_after uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    group_after  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO retelling DEFAULT VALUES;
