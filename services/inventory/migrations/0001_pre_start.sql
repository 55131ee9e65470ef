-- What inventory knows: devices, what they reported, and what was true before.
-- Periods are half open: valid_from <= t < valid_until.

-- sequence: of the newest device-state event. managed: an enrollment is current and open.
-- refresh_due_at: when to ask again; NULL: never. reported_*: the device's own word, which is newer
-- than what it said when it enrolled.
CREATE TABLE device (
    device_id      uuid PRIMARY KEY,
    sequence       bigint NOT NULL DEFAULT 0,
    platform       text NOT NULL DEFAULT 'unknown',
    ownership      text NOT NULL DEFAULT 'unknown',
    name           text,
    serial         text,
    model          text,
    product        text,
    enrolled_os    text,
    user_name      text,
    tags           text[] NOT NULL DEFAULT '{}',
    enrollment_id  uuid,
    managed        boolean NOT NULL DEFAULT false,
    reported_name  text,
    reported_os    text,
    last_seen_at   timestamptz,
    refresh_due_at timestamptz,
    os_version     text GENERATED ALWAYS AS (coalesce(reported_os, enrolled_os)) STORED,
    search         text GENERATED ALWAYS AS (
        lower(coalesce(name, '') || ' ' || coalesce(reported_name, '') || ' '
              || coalesce(serial, '') || ' ' || coalesce(user_name, ''))) STORED
) WITH (fillfactor = 80);
CREATE INDEX device_refresh_due ON device (refresh_due_at) WHERE refresh_due_at IS NOT NULL;

-- The newest report of each section. answered: sorted names of the facts it held. announced_at:
-- when the others last heard that it came.
CREATE TABLE report (
    device_id     uuid NOT NULL,
    section       text NOT NULL,
    sequence      bigint NOT NULL,
    observed_at   timestamptz NOT NULL,
    enrollment_id uuid,
    generation    integer,
    answered      text[] NOT NULL,
    announced_at  timestamptz NOT NULL,
    PRIMARY KEY (device_id, section)
) WITH (fillfactor = 80);

-- confirmed_at: the last report that still held the fact, once newer ones do not; NULL: the
-- section's newest report holds it.
CREATE TABLE fact (
    device_id    uuid NOT NULL,
    name         text NOT NULL,
    section      text NOT NULL,
    value        jsonb NOT NULL,
    changed_at   timestamptz NOT NULL,
    confirmed_at timestamptz,
    PRIMARY KEY (device_id, name)
) WITH (fillfactor = 80);

CREATE TABLE fact_history (
    device_id   uuid NOT NULL,
    name        text NOT NULL,
    value       jsonb NOT NULL,
    valid_from  timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    PRIMARY KEY (device_id, name, valid_until)
) PARTITION BY RANGE (valid_until);
CREATE TABLE fact_history_default PARTITION OF fact_history DEFAULT;

-- Lists that are reported whole: a table for each, all of one shape. The history is one.
CREATE TABLE application (
    device_id uuid NOT NULL,
    key       text NOT NULL,
    detail    jsonb NOT NULL,
    since     timestamptz NOT NULL,
    PRIMARY KEY (device_id, key)
);
CREATE TABLE profile (LIKE application INCLUDING ALL);
CREATE TABLE certificate (LIKE application INCLUDING ALL);
CREATE INDEX application_by_key ON application (key, device_id);

CREATE TABLE item_history (
    section     text NOT NULL,
    device_id   uuid NOT NULL,
    key         text NOT NULL,
    detail      jsonb NOT NULL,
    valid_from  timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    PRIMARY KEY (device_id, section, key, valid_until)
) PARTITION BY RANGE (valid_until);
CREATE TABLE item_history_default PARTITION OF item_history DEFAULT;

-- Slices of answers that were too large for one event, until their command is finished.
CREATE TABLE answer_part (
    command_id  uuid NOT NULL,
    device_id   uuid NOT NULL,
    part        integer NOT NULL,
    data        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (command_id, device_id, part)
);
CREATE INDEX answer_part_by_age ON answer_part (received_at);
