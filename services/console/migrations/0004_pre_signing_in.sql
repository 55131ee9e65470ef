-- How people prove who they are: password, authenticator app, WebAuthn keys; and what slows guessing.

ALTER TABLE account
    ADD password_hash text,
    ADD password_at   timestamptz,
    ADD reset_at      timestamptz;

-- The secret is encrypted for this row. A code's time step is taken once: a code never counts twice.
CREATE TABLE totp (
    account_id uuid PRIMARY KEY REFERENCES account,
    secret     bytea,
    since      timestamptz,
    offered    bytea,
    last_step  bigint NOT NULL DEFAULT 0,
    CHECK ((secret IS NULL) = (since IS NULL))
);

CREATE TABLE passkey (
    passkey_id    uuid PRIMARY KEY,
    account_id    uuid NOT NULL REFERENCES account,
    credential_id bytea NOT NULL UNIQUE,
    public_key    bytea NOT NULL,
    sign_count    bigint NOT NULL,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    registered_at timestamptz NOT NULL,
    used_at       timestamptz
);
CREATE INDEX passkey_account ON passkey (account_id);

-- A challenge that was given out; answered or over, it is gone.
CREATE TABLE ceremony (
    session_id uuid NOT NULL REFERENCES session ON DELETE CASCADE,
    purpose    text NOT NULL,
    challenge  bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (session_id, purpose)
);

-- Guesses that failed, by what was guessed and by who guessed; `until`: not looked at before.
CREATE TABLE throttle (
    key      text PRIMARY KEY,
    failures integer NOT NULL,
    last_at  timestamptz NOT NULL,
    until    timestamptz NOT NULL
);
CREATE INDEX throttle_last ON throttle (last_at);

-- A link by which somebody sets their own password: of a new account, or of one that was reset.
CREATE TABLE account_link (
    token_hash bytea PRIMARY KEY,
    account_id uuid NOT NULL UNIQUE REFERENCES account,
    made_at    timestamptz NOT NULL,
    made_by    text NOT NULL,
    expires_at timestamptz NOT NULL
);
