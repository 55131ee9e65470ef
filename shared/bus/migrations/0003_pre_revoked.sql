-- Sessions and API tokens that ended lately: access tokens made from them are refused. An access
-- token lives for fifteen minutes at most, so what is older than a day is forgotten.
CREATE TABLE revoked_via (
    via        text PRIMARY KEY,
    revoked_at timestamptz NOT NULL
);
CREATE INDEX revoked_via_revoked_at ON revoked_via (revoked_at);
