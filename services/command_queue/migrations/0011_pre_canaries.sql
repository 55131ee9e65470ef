-- Targets of a wide change that wait until a person has seen what it did to the first few
-- (decision 59). Beside `target`, so that what is expanded next is read as before.
CREATE TABLE parked (
    command_id  uuid NOT NULL,
    chunk       integer NOT NULL,
    ordinal     bigint NOT NULL,
    plain       boolean NOT NULL,
    priority    smallint NOT NULL,
    size        integer NOT NULL,
    device_ids  uuid[] NOT NULL,
    channel_ids uuid[],
    bodies      bytea[],
    PRIMARY KEY (command_id, chunk)
);

CREATE TABLE canary (
    command_id   uuid PRIMARY KEY,
    -- SHA-256 of what is changed: what was let go on once needs no second canary for a while.
    content      bytea NOT NULL,
    device_ids   uuid[] NOT NULL,
    rest         integer NOT NULL,
    begun_at     timestamptz NOT NULL,
    continued_at timestamptz,
    continued_by text
);
CREATE INDEX canary_content ON canary (content, continued_at);

-- How many were changed in the same way lately: many small commands are one wide change.
CREATE TABLE change (
    command_id uuid PRIMARY KEY,
    content    bytea NOT NULL,
    targets    integer NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX change_content ON change (content, changed_at) INCLUDE (targets);
