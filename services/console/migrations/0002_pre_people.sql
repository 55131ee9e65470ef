-- People: accounts, what they may do and where, and the sessions of their browsers.

-- E-mail is what a local account signs in with, never who somebody is: account_id is.
CREATE TABLE account (
    account_id  uuid PRIMARY KEY,
    name        text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    email       text NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);
CREATE UNIQUE INDEX account_email ON account (lower(email));

-- What the built-in roles hold is code; their rows are here so that a grant names what there is.
CREATE TABLE role (
    role_id     text PRIMARY KEY,
    name        text NOT NULL,
    built_in    boolean NOT NULL DEFAULT false,
    permissions text[] NOT NULL DEFAULT '{}',
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (NOT built_in OR permissions = '{}')
);
CREATE UNIQUE INDEX role_name ON role (lower(name));
INSERT INTO role (role_id, name, built_in) VALUES
    ('owner', 'Owner', true),
    ('admin', 'Admin', true),
    ('operator', 'Operator', true),
    ('help_desk', 'Help desk', true),
    ('auditor', 'Auditor', true),
    ('read_only', 'Read-only', true);

-- A role on all devices (no group) or on the devices of one static group of inventory.
CREATE TABLE role_grant (
    grant_id   uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    role_id    text NOT NULL REFERENCES role,
    group_id   uuid,
    granted_at timestamptz NOT NULL,
    granted_by text NOT NULL
);
CREATE UNIQUE INDEX role_grant_once ON role_grant (account_id, role_id, group_id)
    NULLS NOT DISTINCT;
CREATE INDEX role_grant_role ON role_grant (role_id);

-- session_id names it to people and in tokens; the secret that the browser holds is kept as a hash.
-- Until proven_at is set the second factor is missing, and the session opens no page.
CREATE TABLE session (
    session_id  uuid PRIMARY KEY,
    secret_hash bytea NOT NULL UNIQUE,
    account_id  uuid NOT NULL REFERENCES account,
    method      text NOT NULL,
    created_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    proven_at   timestamptz,
    source      text,
    agent       text
);
CREATE INDEX session_account ON session (account_id, created_at);
CREATE INDEX session_ends ON session (ends_at);
