-- Every command to a device, from request to proven outcome.
-- Open work and history are kept apart: what a poll reads never grows with what was done before.

-- One order for commands and fences, independent of clocks: a fence ends what was asked before it.
CREATE SEQUENCE ordinal;

-- ---- Who is managed: built from device-state events, may be emptied and built again -------------

CREATE TABLE device (
    device_id uuid PRIMARY KEY,
    -- False: a shell row; an event named the device before its state arrived.
    known boolean NOT NULL DEFAULT false,
    sequence bigint NOT NULL DEFAULT 0,
    platform text,
    ownership text,
    os_version text,
    current_enrollment uuid,
    -- Where a command for the device goes without a further look, if its ordinal is above
    -- plain_after (null: each is looked at by itself). Traits: what decides whether it is eligible.
    channel_id uuid,
    generation integer,
    traits bigint,
    outbox_shard smallint,
    plain_after bigint
) WITH (fillfactor = 80);

CREATE TABLE enrollment (
    enrollment_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    -- When it was first heard of: what was asked for before is not meant for it.
    ordinal bigint NOT NULL DEFAULT nextval('ordinal'),
    generation integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'enrolled', 'quarantined', 'ended')),
    mode text NOT NULL DEFAULT 'device',
    supervised boolean,
    access_rights integer,
    udid text
) WITH (fillfactor = 80);
CREATE INDEX enrollment_device ON enrollment (device_id);
-- Only asked for a certificate that nobody is pinned to: whose name does it use?
CREATE INDEX enrollment_udid ON enrollment (udid);

CREATE TABLE channel (
    channel_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    enrollment_id uuid NOT NULL,
    kind text NOT NULL,
    user_key text NOT NULL,
    open boolean NOT NULL,
    -- Sealed to this service; opened only to send ClearPasscode.
    unlock_token text,
    UNIQUE (enrollment_id, kind, user_key)
) WITH (fillfactor = 80);
CREATE INDEX channel_device ON channel (device_id);

CREATE TABLE pin (
    sha256 bytea NOT NULL,
    device_id uuid NOT NULL,
    enrollment_id uuid NOT NULL
);
CREATE INDEX pin_enrollment ON pin (enrollment_id);
ALTER TABLE pin ADD PRIMARY KEY (sha256);

CREATE TABLE authority (
    authority text PRIMARY KEY,
    sequence bigint NOT NULL,
    -- PEM, one after the other.
    certificates text NOT NULL
);

-- The last fence of each enrollment. Not part of the projection: it outlives a rebuild.
CREATE TABLE fence (
    enrollment_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL,
    ordinal bigint NOT NULL DEFAULT nextval('ordinal'),
    fenced_at timestamptz NOT NULL,
    -- device-state has caught up with it: until then, what it says of the enrollment is old.
    shown boolean NOT NULL DEFAULT false
);
CREATE INDEX fence_device ON fence (device_id);

-- Apart from `device`: written in bulk, and never under a device's lock.
CREATE TABLE presence (
    device_id uuid PRIMARY KEY,
    last_seen_at timestamptz NOT NULL,
    told_at timestamptz
) WITH (fillfactor = 60);

-- ---- Commands -----------------------------------------------------------------------------------

-- Commands of which something is open; the sweeper files what has run its course in past_command.
CREATE TABLE command (
    command_id uuid PRIMARY KEY,
    ordinal bigint NOT NULL DEFAULT nextval('ordinal'),
    kind text NOT NULL,
    request_type text NOT NULL,
    section text,
    command_class text NOT NULL
        CHECK (command_class IN ('harmless', 'disruptive', 'destructive')),
    -- The whole document a device is sent, once for all targets; null when each has its own.
    body bytea,
    -- True: body (and each target's own) is encrypted for this row.
    secret boolean NOT NULL,
    -- The parameters as people may see them.
    summary jsonb NOT NULL,
    profile_identifier text,
    actor text NOT NULL,
    reason text,
    state text NOT NULL CHECK (state IN ('active', 'held', 'cancelled', 'expired')),
    hold_reason text,
    priority smallint NOT NULL,
    target_count integer NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_by text,
    end_reason text,
    -- What asked for it: goes on into every event about it.
    correlation_id text,
    traceparent text,
    -- When the sweeper looks at it next.
    sweep_at timestamptz NOT NULL
) WITH (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX command_sweep ON command (sweep_at);

-- Commands that are over, without the document: nobody is sent it any more.
CREATE TABLE past_command (
    command_id uuid PRIMARY KEY,
    kind text NOT NULL,
    request_type text NOT NULL,
    section text,
    command_class text NOT NULL,
    summary jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    state text NOT NULL CHECK (state IN ('finished', 'cancelled', 'expired')),
    hold_reason text,
    priority smallint NOT NULL,
    target_count integer NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    ended_by text,
    end_reason text,
    correlation_id text
) PARTITION BY RANGE (command_id);
CREATE TABLE past_command_default PARTITION OF past_command DEFAULT;
CREATE INDEX past_command_kind ON past_command (kind, command_id);
CREATE INDEX past_command_actor ON past_command (actor, command_id);

-- What people look at, wherever it lies.
CREATE VIEW any_command AS
SELECT command_id, kind, request_type, section, command_class, summary, actor, reason, state,
       hold_reason, priority, target_count, created_at, expires_at, ended_at, ended_by, end_reason
FROM command
UNION ALL
SELECT command_id, kind, request_type, section, command_class, summary, actor, reason, state,
       hold_reason, priority, target_count, created_at, expires_at, ended_at, ended_by, end_reason
FROM past_command;

-- Which command a request became, so that a repeat of it is recognised; kept longer than any
-- command lives. Unique over all time, so it cannot be partitioned by time.
CREATE TABLE request_key (
    actor text NOT NULL,
    idempotency_key text NOT NULL,
    command_id uuid NOT NULL,
    -- Encrypted: of what was asked, PINs included.
    digest bytea NOT NULL,
    PRIMARY KEY (actor, idempotency_key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX request_key_command ON request_key (command_id);

-- The frozen target list until it is expanded: a few hundred sorted devices a row.
CREATE TABLE target (
    command_id uuid NOT NULL,
    chunk integer NOT NULL,
    ordinal bigint NOT NULL,
    -- False: each target is looked at by itself, because it is not a plain one (see device).
    plain boolean NOT NULL,
    -- Of the command, so that what is next can be read from the index.
    priority smallint NOT NULL,
    size integer NOT NULL,
    device_ids uuid[] NOT NULL,
    -- Null: the device channel of each; else the named channel of each.
    channel_ids uuid[],
    bodies bytea[]
) WITH (
    -- Rows live for moments: the head of the index must not fill with dead entries.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX target_command ON target (command_id);
CREATE INDEX target_next ON target (plain, chunk, priority DESC, ordinal);
ALTER TABLE target ADD PRIMARY KEY (ordinal, chunk, plain);

-- Targets whose device or channel is not known yet.
CREATE TABLE waiting (
    command_id uuid NOT NULL,
    -- The named channel, else the device.
    target_id uuid NOT NULL,
    device_id uuid NOT NULL,
    channel_id uuid,
    body bytea,
    until timestamptz NOT NULL,
    PRIMARY KEY (command_id, target_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX waiting_device ON waiting (device_id);
CREATE INDEX waiting_until ON waiting (until);

-- Open work only. No index names the state: handing out and deferring stay in their page (HOT).
CREATE TABLE pending (
    channel_id uuid NOT NULL,
    command_id uuid NOT NULL,
    device_id uuid NOT NULL,
    enrollment_id uuid NOT NULL,
    generation integer NOT NULL,
    priority smallint NOT NULL,
    -- The command's ordinal: first asked, first served.
    seq bigint NOT NULL,
    state text NOT NULL
        CHECK (state IN ('held', 'queued', 'sent', 'deferred', 'cancel_requested')),
    deliveries integer NOT NULL DEFAULT 0,
    deferrals integer NOT NULL DEFAULT 0,
    -- push_notifier was told that a deferred command needs a push (apple.md §1.3 rule 3).
    push_wanted boolean NOT NULL DEFAULT false,
    queued_at timestamptz NOT NULL,
    sent_at timestamptz,
    body bytea
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_cost_delay = 0
);
-- Of indexes that look equally good, as all do while the table is empty, the planner takes the
-- youngest, and a plan made then serves until the table is analysed: the key comes last.
-- Without the channel: in a table that looks empty it would be taken for a way to a channel.
CREATE INDEX pending_command ON pending (command_id);
-- The key, a device's work, and a channel's in its order, in one: each further index costs a fifth
-- of what adding a row does. Who has a command's id finds priority and seq with the command.
CREATE UNIQUE INDEX pending_queue ON pending (device_id, channel_id, priority DESC, seq);

-- The one outcome of each target. A target that had no channel is filed under its device's id.
CREATE TABLE outcome (
    command_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    device_id uuid NOT NULL,
    enrollment_id uuid,
    generation integer,
    state text NOT NULL CHECK (
        state IN (
            'acknowledged', 'verified', 'failed', 'expired', 'cancelled', 'unconfirmed'
        )
    ),
    reason text,
    errors jsonb,
    -- What the device said, without secret fields; null when it is too long to keep.
    answer jsonb,
    answer_bytes integer,
    -- Encrypted: the secret fields that were split off.
    secrets bytea,
    deliveries integer NOT NULL,
    deferrals integer NOT NULL,
    queued_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (command_id, channel_id)
) PARTITION BY RANGE (command_id);
CREATE TABLE outcome_default PARTITION OF outcome DEFAULT;
CREATE INDEX outcome_device ON outcome (device_id, command_id DESC);

-- ---- The guard ----------------------------------------------------------------------------------

-- Read at claim time: what they name is not handed out, from the freeze's own answer on.
CREATE TABLE command_freeze (
    freeze_id uuid PRIMARY KEY,
    -- Null: every class.
    command_class text,
    -- Null: also commands that are asked for later.
    before timestamptz,
    actor text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text
);

-- The row that charging locks, so that two commands cannot both fit into the last free place.
CREATE TABLE installation (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row));
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE charge (
    command_id uuid PRIMARY KEY,
    charged_at timestamptz NOT NULL,
    targets integer NOT NULL
);
CREATE INDEX charge_time ON charge (charged_at) INCLUDE (targets);

-- Profiles that Muster installed itself: removing one of them is not the loss of a stranger's.
CREATE TABLE installed_profile (
    identifier text PRIMARY KEY,
    command_id uuid NOT NULL
);
