-- What push_notifier knows: channels and their push state, what was sent, push certificates.

CREATE TABLE device (
    device_id uuid PRIMARY KEY,
    sequence  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

-- `push` stays sealed (token and magic); it is opened in memory when a push is sent.
-- waiting_since: work waits. next_push_at: when to wake the channel (again). attempts: pushes since
-- the device last answered.
CREATE TABLE channel (
    channel_id      uuid PRIMARY KEY,
    device_id       uuid NOT NULL,
    open            boolean NOT NULL DEFAULT false,
    topic           text,
    push            text,
    push_updated_at timestamptz,
    dead_at         timestamptz,
    dead_reason     text,
    waiting_since   timestamptz,
    next_push_at    timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    last_push_at    timestamptz,
    last_push_id    text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX channel_due ON channel (next_push_at)
    WHERE next_push_at IS NOT NULL AND open AND dead_at IS NULL;
CREATE INDEX channel_by_device ON channel (device_id);

CREATE TABLE attempt (
    attempt_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    device_id  uuid NOT NULL,
    sent_at    timestamptz NOT NULL,
    status     integer NOT NULL,
    reason     text,
    PRIMARY KEY (attempt_id)
) PARTITION BY RANGE (attempt_id);
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;
CREATE INDEX attempt_by_device ON attempt (device_id, attempt_id DESC);

-- A topic whose certificate the vendor refuses: no pushes until open_until.
CREATE TABLE circuit (
    topic      text PRIMARY KEY,
    open_until timestamptz NOT NULL,
    failures   integer NOT NULL,
    reason     text NOT NULL
);

CREATE TABLE certificate_request (
    request_id uuid PRIMARY KEY,
    csr        text NOT NULL,
    key        bytea NOT NULL,
    public_key bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL
);

CREATE TABLE push_certificate (
    topic       text PRIMARY KEY,
    certificate text NOT NULL,
    key         bytea NOT NULL,
    fingerprint text NOT NULL,
    not_after   timestamptz NOT NULL,
    current     boolean NOT NULL,
    uploaded_at timestamptz NOT NULL,
    uploaded_by text NOT NULL
);
