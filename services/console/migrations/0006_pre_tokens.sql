-- API tokens: kept as hashes, never longer than their owners' rights, each with an end.
CREATE TABLE api_token (
    token_id    uuid PRIMARY KEY,
    token_hash  bytea NOT NULL UNIQUE,
    account_id  uuid NOT NULL REFERENCES account,
    name        text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    permissions text[] NOT NULL,
    group_id    uuid,
    made_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    used_at     timestamptz,
    used_from   text
);
CREATE INDEX api_token_account ON api_token (account_id, made_at);
