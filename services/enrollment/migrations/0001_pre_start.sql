-- Who is managed. No foreign keys between the tables that check-ins write: each would cost a
-- trigger and a row lock a check-in, and rows are only removed together.

-- A piece of hardware. A row with known = false is a shell: another service named the device
-- before this one knew it.
CREATE TABLE device (
    device_id uuid PRIMARY KEY,
    known boolean NOT NULL DEFAULT false,
    platform text NOT NULL DEFAULT 'unknown',
    ownership text NOT NULL DEFAULT 'unknown'
        CHECK (ownership IN ('corporate', 'personal', 'unknown')),
    name text,                      -- chosen by a person; wins over what the device calls itself
    reported_name text,
    serial text,
    udid text,                      -- UDID, or EnrollmentID of a user enrollment
    model text,
    product text,
    os_version text,
    build text,
    user_name text,
    tags text[] NOT NULL DEFAULT '{}',
    current_enrollment uuid,        -- the one that commands go to; never a quarantined one
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX device_udid ON device (udid);
CREATE INDEX device_serial ON device (serial);

CREATE TABLE enrollment (
    enrollment_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'enrolled', 'quarantined', 'ended')),
    mode text NOT NULL CHECK (mode IN ('device', 'user', 'shared_ipad')),
    id_kind text NOT NULL CHECK (id_kind IN ('udid', 'enrollment_id')),
    udid text NOT NULL,             -- what a body's id is compared with, by id_kind
    session_id uuid,
    credential_id uuid,
    ownership text NOT NULL DEFAULT 'unknown',
    user_name text,
    access_rights integer,
    supervised boolean,
    claimed jsonb NOT NULL,         -- what Authenticate told; becomes the device's facts on release
    reasons jsonb NOT NULL DEFAULT '[]',    -- why it is quarantined
    bootstrap_token bytea,          -- encrypted
    authenticated_with bytea NOT NULL,      -- SHA-256 of the certificate of the last Authenticate
    authenticated_at timestamptz NOT NULL,
    enrolled_at timestamptz,
    ended_at timestamptz,
    end_reason text
) WITH (fillfactor = 80);
-- No index names the state, not even in a condition: a TokenUpdate completes its row in place (HOT).
CREATE INDEX enrollment_device ON enrollment (device_id);

-- The device's own channel (user_kind '') and one for each user. The columns are the identity; a
-- joined string could be forged by a crafted user id.
CREATE TABLE channel (
    channel_id uuid PRIMARY KEY,
    enrollment_id uuid NOT NULL,
    device_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('device', 'user')),
    user_kind text NOT NULL DEFAULT '',
    user_key text NOT NULL DEFAULT '',
    user_name text,
    open_generation integer,        -- a TokenUpdate arrived in this generation
    push_topic text,
    push bytea,                     -- encrypted JSON {"token", "magic"}
    push_sealed text,               -- the same, sealed to push_notifier
    push_updated_at timestamptz,
    unlock_token bytea,             -- encrypted
    unlock_sealed text,             -- the same, sealed to command_queue
    UNIQUE (enrollment_id, user_kind, user_key)
) WITH (
    fillfactor = 80,
    -- Ciphertext does not compress, and a row with an unlock token is above the usual limit of 2 kB:
    -- it stays in one piece instead of being squeezed in vain and cut up.
    toast_tuple_target = 8160
);
ALTER TABLE channel ALTER push SET STORAGE EXTERNAL, ALTER push_sealed SET STORAGE EXTERNAL,
    ALTER unlock_token SET STORAGE EXTERNAL, ALTER unlock_sealed SET STORAGE EXTERNAL;

-- Every device identity that counts: issued here or imported. A certificate without a row here
-- opens nothing, whoever signed it.
CREATE TABLE certificate (
    sha256 bytea PRIMARY KEY,
    serial_number text NOT NULL,    -- lower-case hex without leading zeros
    authority text,                 -- name of the authority that issued it; NULL: imported
    key_sha256 bytea NOT NULL,      -- of the SubjectPublicKeyInfo
    der bytea NOT NULL,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    session_id uuid,
    device_id uuid,
    enrollment_id uuid,             -- the pin
    issued_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revocation_reason text,
    crl_number bigint               -- the first CRL that holds the revocation
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX certificate_serial ON certificate (authority, serial_number);
CREATE INDEX certificate_enrollment ON certificate (enrollment_id);
CREATE INDEX certificate_device ON certificate (device_id);
CREATE INDEX certificate_revoked ON certificate (authority, revoked_at)
    WHERE revoked_at IS NOT NULL;
CREATE INDEX certificate_unlisted ON certificate (authority)
    WHERE revoked_at IS NOT NULL AND crl_number IS NULL;

-- The right to enroll: the token itself is shown once and never kept.
CREATE TABLE credential (
    credential_id uuid PRIMARY KEY,
    token_sha256 bytea NOT NULL UNIQUE,
    name text NOT NULL,
    max_uses integer NOT NULL CHECK (max_uses > 0),
    uses integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    platform text,
    ownership text NOT NULL,
    serial text,
    user_name text,
    unsigned_allowed boolean NOT NULL DEFAULT false,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL
);

-- One profile handed out: its challenge buys one certificate, that certificate one enrollment.
CREATE TABLE session (
    session_id uuid PRIMARY KEY,
    credential_id uuid,
    renews uuid,                    -- only this enrollment may be renewed with it
    challenge_sha256 bytea NOT NULL UNIQUE,
    platform text,
    ownership text NOT NULL,
    serial text,
    user_name text,
    access_rights integer,
    certificate_sha256 bytea,       -- set: the challenge is spent
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_unspent ON session (expires_at) WHERE certificate_sha256 IS NULL;

-- Fences that must still be told to command_queue. `ends` set: a revocation that takes effect
-- only then.
CREATE TABLE fence (
    enrollment_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL,
    ends text,
    actor text,
    requested_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0
);
CREATE INDEX fence_due ON fence (due_at);

CREATE TABLE authority (
    name text PRIMARY KEY,          -- stands in the addresses of its CRL and certificate
    role text NOT NULL CHECK (role IN ('ca', 'ra', 'ocsp', 'profile')),
    certificate bytea NOT NULL,
    key bytea NOT NULL,             -- encrypted PKCS #8
    created_at timestamptz NOT NULL
);

CREATE TABLE crl (
    authority text NOT NULL,
    number bigint NOT NULL,
    der bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    next_update timestamptz NOT NULL,
    PRIMARY KEY (authority, number)
);

-- What push_notifier announces: the topic that enrollment profiles name.
CREATE TABLE push_certificate (
    topic text PRIMARY KEY,
    fingerprint text NOT NULL,
    not_after timestamptz NOT NULL,
    development boolean NOT NULL,
    current boolean NOT NULL,
    sequence bigint NOT NULL
);
