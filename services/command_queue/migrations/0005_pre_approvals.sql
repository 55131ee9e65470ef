-- Who may decide about what is held, as the console tells it, and since when this service has heard
-- of it: nobody is made older than they are.
CREATE TABLE approver (
    account_id uuid PRIMARY KEY,
    sequence   bigint NOT NULL,
    name       text NOT NULL,
    disabled   boolean NOT NULL,
    created_at timestamptz NOT NULL,
    reset_at   timestamptz,
    -- Made by the set-up link: nobody was there before. Only the first that is told as such is.
    founder    boolean NOT NULL
);
CREATE UNIQUE INDEX approver_founder ON approver (founder) WHERE founder;

CREATE TABLE approver_right (
    account_id uuid NOT NULL,
    permission text NOT NULL,
    -- Null: on all devices.
    group_id   uuid,
    since      timestamptz NOT NULL,
    heard_at   timestamptz NOT NULL
);
CREATE UNIQUE INDEX approver_right_once ON approver_right (account_id, permission, group_id)
    NULLS NOT DISTINCT;

CREATE TABLE approver_key (
    credential_id bytea PRIMARY KEY,
    account_id    uuid NOT NULL,
    public_key    bytea NOT NULL,
    since         timestamptz NOT NULL,
    heard_at      timestamptz NOT NULL,
    -- Of assertions shown to this service; the console counts its own.
    sign_count    bigint NOT NULL DEFAULT 0
);
CREATE INDEX approver_key_account ON approver_key (account_id);

-- What a held command would do, frozen when it was held: what approvers sign.
CREATE TABLE holding (
    command_id uuid PRIMARY KEY,
    why        text NOT NULL,
    -- Distinct approvers; null: nobody can let it run.
    needs      smallint,
    not_before timestamptz NOT NULL,
    -- SHA-256 of the rendered document, and of each target's own where it has one.
    content    bytea NOT NULL,
    device_ids uuid[] NOT NULL,
    -- Null: the device channel of each; else the named channel of some.
    channel_ids uuid[],
    bodies     bytea[]
);

CREATE TABLE approval (
    subject_id    uuid NOT NULL,
    account_id    uuid NOT NULL,
    credential_id bytea NOT NULL,
    -- SHA-256 of what was approved, which names the subject and what kind it is of.
    digest        bytea NOT NULL,
    approved_at   timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (subject_id, account_id)
);

-- Commands that were let run, while targets that were placed as held are left.
CREATE TABLE release (command_id uuid PRIMARY KEY);
