-- What compliance knows: policies, what devices reported, and the verdicts.

-- sequence: of the newest device-state event. since: when its present management began.
-- state: the worst of its verdicts; NULL: not managed, not counted.
CREATE TABLE device (
    device_id     uuid PRIMARY KEY,
    sequence      bigint NOT NULL DEFAULT 0,
    platform      text NOT NULL DEFAULT 'unknown',
    ownership     text NOT NULL DEFAULT 'unknown',
    name          text,
    serial        text,
    tags          text[] NOT NULL DEFAULT '{}',
    managed       boolean NOT NULL DEFAULT false,
    since         timestamptz,
    seen_at       timestamptz,
    seen_evidence uuid,
    state         text
) WITH (fillfactor = 80);
CREATE INDEX device_by_state ON device (state, device_id) WHERE state IS NOT NULL;

CREATE TABLE fact (
    device_id   uuid NOT NULL,
    name        text NOT NULL,
    value       jsonb NOT NULL,
    observed_at timestamptz NOT NULL,
    evidence    uuid NOT NULL,
    sequence    bigint NOT NULL,
    PRIMARY KEY (device_id, name)
) WITH (fillfactor = 80);

CREATE TABLE section (
    device_id   uuid NOT NULL,
    section     text NOT NULL,
    observed_at timestamptz NOT NULL,
    evidence    uuid NOT NULL,
    PRIMARY KEY (device_id, section)
) WITH (fillfactor = 80);

CREATE TABLE application (
    device_id   uuid NOT NULL,
    identifier  text NOT NULL,
    version     text,
    observed_at timestamptz NOT NULL,
    evidence    uuid NOT NULL,
    PRIMARY KEY (device_id, identifier)
);

CREATE TABLE policy (
    policy_id  uuid PRIMARY KEY,
    version    integer NOT NULL,
    name       text NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX policy_by_name ON policy (lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE policy_version (
    policy_id  uuid NOT NULL REFERENCES policy,
    version    integer NOT NULL,
    definition jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    reason     text,
    PRIMARY KEY (policy_id, version)
);

-- due_at: when time alone changes the verdict.
CREATE TABLE verdict (
    device_id      uuid NOT NULL,
    policy_id      uuid NOT NULL,
    policy_version integer NOT NULL,
    state          text NOT NULL,
    findings       jsonb NOT NULL,
    evaluated_at   timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    due_at         timestamptz,
    PRIMARY KEY (device_id, policy_id)
) WITH (fillfactor = 80);
CREATE INDEX verdict_by_policy ON verdict (policy_id, device_id);
CREATE INDEX verdict_by_state ON verdict (state, policy_id, device_id);
CREATE INDEX verdict_due ON verdict (due_at) WHERE due_at IS NOT NULL;

-- Devices by state, for each policy and (under the nil id) by their own state. Sharded, since many
-- transactions count at once; a shard may be below zero, their sum is not.
CREATE TABLE tally (
    policy_id uuid NOT NULL,
    state     text NOT NULL,
    shard     smallint NOT NULL,
    count     bigint NOT NULL,
    PRIMARY KEY (policy_id, state, shard)
) WITH (fillfactor = 50);

-- A changed policy on its way through the fleet: devices up to `after` are judged anew.
CREATE TABLE rollout (
    policy_id   uuid PRIMARY KEY REFERENCES policy,
    version     integer NOT NULL,
    deleting    boolean NOT NULL DEFAULT false,
    after       uuid,
    judged      bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX rollout_open ON rollout (started_at) WHERE finished_at IS NULL;
