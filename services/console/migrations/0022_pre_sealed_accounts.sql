-- Sealed accounts: for the day when nothing else lets anybody in. They have keys and nothing else.
ALTER TABLE account ADD sealed boolean NOT NULL DEFAULT false;
ALTER TABLE account ADD CHECK (NOT sealed OR password_hash IS NULL);

-- Each time one was opened; everybody is told.
CREATE TABLE sealed_use (
    use_id     uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    used_at    timestamptz NOT NULL,
    source     text
);
CREATE INDEX sealed_use_at ON sealed_use (used_at);
CREATE INDEX sealed_use_account ON sealed_use (account_id, used_at);

-- A challenge for whoever has a sealed account's key: one a browser.
CREATE TABLE sealed_ceremony (
    browser_hash bytea PRIMARY KEY,
    challenge    bytea NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sealed_ceremony_expires ON sealed_ceremony (expires_at);
