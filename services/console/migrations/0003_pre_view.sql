-- What the console shows of devices without asking anybody: its read model (decision 43).

-- {17,4,1} of "17.4.1": versions sort as numbers. NULL where there is no number.
CREATE FUNCTION version_key(version text) RETURNS integer[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN nullif(ARRAY(
    SELECT left(part[1], 9)::integer
    FROM regexp_matches(version, '\d+', 'g') WITH ORDINALITY AS found (part, place)
    ORDER BY place), '{}');

-- Every three letters in a row; a word begins after a space, so " ab" finds words by their start.
CREATE FUNCTION grams(words text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT DISTINCT substr(words, place, 3)
             FROM generate_series(1, length(words) - 2) AS place);

-- sequence: of the newest device-state event; 0: heard of, not introduced, and shown nowhere.
-- reported_*: the device's own word, newer than what it said when it enrolled. status: of the
-- current enrollment. compliance: the worst of its verdicts; NULL: not managed. *_key: what lists
-- are sorted by.
ALTER TABLE device
    ADD COLUMN sequence             bigint NOT NULL DEFAULT 0,
    ADD COLUMN platform             text NOT NULL DEFAULT 'unknown',
    ADD COLUMN ownership            text NOT NULL DEFAULT 'unknown',
    ADD COLUMN name                 text,
    ADD COLUMN serial               text,
    ADD COLUMN udid                 text,
    ADD COLUMN user_name            text,
    ADD COLUMN model                text,
    ADD COLUMN product              text,
    ADD COLUMN enrolled_os          text,
    ADD COLUMN enrolled_supervised  boolean,
    ADD COLUMN tags                 text[] NOT NULL DEFAULT '{}',
    ADD COLUMN status               text NOT NULL DEFAULT 'pending',
    ADD COLUMN enrollment_id        uuid,
    ADD COLUMN enrolled_at          timestamptz,
    ADD COLUMN ended_at             timestamptz,
    ADD COLUMN end_reason           text,
    ADD COLUMN reported_name        text,
    ADD COLUMN reported_model       text,
    ADD COLUMN reported_os          text,
    ADD COLUMN reported_supervised  boolean,
    ADD COLUMN last_seen_at         timestamptz,
    ADD COLUMN compliance           text,
    ADD COLUMN certificate_until    timestamptz,
    ADD COLUMN groups               uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN groups_sequence      bigint NOT NULL DEFAULT 0,
    ADD COLUMN os_version  text GENERATED ALWAYS AS (coalesce(reported_os, enrolled_os)) STORED,
    ADD COLUMN supervised  boolean
        GENERATED ALWAYS AS (coalesce(reported_supervised, enrolled_supervised)) STORED,
    ADD COLUMN os_key      integer[]
        GENERATED ALWAYS AS (version_key(coalesce(reported_os, enrolled_os))) STORED,
    ADD COLUMN name_key    text COLLATE "C"
        GENERATED ALWAYS AS (lower(coalesce(name, reported_name))) STORED,
    ADD COLUMN user_key    text COLLATE "C" GENERATED ALWAYS AS (lower(user_name)) STORED,
    ADD COLUMN serial_key  text COLLATE "C" GENERATED ALWAYS AS (lower(serial)) STORED,
    ADD COLUMN model_key   text COLLATE "C" GENERATED ALWAYS AS (
        lower(nullif(coalesce(reported_model, model, '') || ' ' || coalesce(product, ''), ' ')))
        STORED,
    ADD COLUMN compliance_key smallint GENERATED ALWAYS AS (
        array_position(ARRAY['noncompliant', 'error', 'stale', 'not_evaluated', 'compliant'],
                       compliance)) STORED;
ALTER TABLE device SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05,
                        autovacuum_analyze_scale_factor = 0.05);

-- One for each order; the id makes every place in a list unique. NULLs have a place too: last.
CREATE INDEX device_by_name ON device (name_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_serial ON device (serial_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_user ON device (user_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_model ON device (model_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_platform ON device (platform, device_id) WHERE sequence > 0;
CREATE INDEX device_by_os ON device (os_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_ownership ON device (ownership, device_id) WHERE sequence > 0;
CREATE INDEX device_by_status ON device (status, device_id) WHERE sequence > 0;
CREATE INDEX device_by_compliance ON device (compliance_key, device_id) WHERE sequence > 0;
CREATE INDEX device_by_enrolled ON device (enrolled_at, device_id) WHERE sequence > 0;
CREATE INDEX device_by_seen ON device (last_seen_at, device_id) WHERE sequence > 0;
CREATE INDEX device_by_certificate ON device (certificate_until, device_id) WHERE sequence > 0;
-- Without a list of pending entries, which every reader would have to walk.
CREATE INDEX device_groups ON device USING gin (groups) WITH (fastupdate = off);
CREATE INDEX device_tags ON device USING gin (tags) WITH (fastupdate = off);

-- What search looks through. A table of its own: a device that is seen every hour must not have
-- its hundred grams indexed anew each time.
CREATE TABLE search (
    device_id uuid PRIMARY KEY,
    words     text NOT NULL
);
CREATE INDEX search_grams ON search USING gin (grams(words)) WITH (fastupdate = off);

CREATE TABLE device_group (
    group_id    uuid PRIMARY KEY,
    sequence    bigint NOT NULL,
    name        text NOT NULL,
    description text,
    protected   boolean NOT NULL,
    deleted     boolean NOT NULL
);

CREATE TABLE policy (
    policy_id uuid PRIMARY KEY,
    version   integer NOT NULL,
    name      text NOT NULL,
    deleted   boolean NOT NULL DEFAULT false
);

CREATE TABLE verdict (
    device_id      uuid NOT NULL,
    policy_id      uuid NOT NULL,
    sequence       bigint NOT NULL,
    policy_version integer NOT NULL,
    state          text NOT NULL,
    findings       jsonb NOT NULL,
    evaluated_at   timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    PRIMARY KEY (device_id, policy_id)
) WITH (fillfactor = 80);
CREATE INDEX verdict_by_policy ON verdict (policy_id, state, device_id);

-- Identity certificates that were issued or imported and not revoked.
CREATE TABLE certificate (
    device_id uuid NOT NULL,
    sha256    text NOT NULL,
    not_after timestamptz NOT NULL,
    PRIMARY KEY (device_id, sha256)
);

-- Vendors' certificates that wake devices.
CREATE TABLE push_certificate (
    topic       text PRIMARY KEY,
    sequence    bigint NOT NULL,
    not_after   timestamptz NOT NULL,
    current     boolean NOT NULL
);

-- How many devices there are of each kind: kept as they change, never counted. Sharded, since many
-- transactions count at once; a shard may be below zero, their sum is not.
CREATE TABLE tally (
    dimension text NOT NULL,
    value     text NOT NULL,
    shard     smallint NOT NULL,
    count     bigint NOT NULL,
    PRIMARY KEY (dimension, value, shard)
) WITH (fillfactor = 50);

-- What happened how often on a day (UTC); sharded like the tally.
CREATE TABLE daily (
    day   date NOT NULL,
    what  text NOT NULL,
    shard smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (day, what, shard)
) WITH (fillfactor = 50);

-- What happened, for people to read; activity_id is the event's. loud: for everybody's eyes, not
-- only for those who look at the device.
CREATE TABLE activity (
    activity_id uuid PRIMARY KEY,
    at          timestamptz NOT NULL,
    kind        text NOT NULL,
    device_id   uuid,
    actor       text,
    detail      jsonb NOT NULL,
    loud        boolean NOT NULL
) PARTITION BY RANGE (activity_id);
CREATE TABLE activity_default PARTITION OF activity DEFAULT;
CREATE INDEX activity_of_device ON activity (device_id, activity_id);
CREATE INDEX activity_loud ON activity (activity_id) WHERE loud;
