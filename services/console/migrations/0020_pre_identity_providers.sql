-- Identity providers (OpenID Connect) and who their people are here.

-- The issuer is what a provider is: it never changes. Without a client it is not in use yet; the
-- secret is encrypted for this row.
CREATE TABLE identity_provider (
    provider_id   uuid PRIMARY KEY,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    issuer        text NOT NULL UNIQUE CHECK (char_length(issuer) BETWEEN 1 AND 300),
    client_id     text CHECK (char_length(client_id) BETWEEN 1 AND 300),
    client_secret bytea,
    newcomers     boolean NOT NULL DEFAULT false,
    enabled       boolean NOT NULL DEFAULT false,
    made_at       timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    CHECK ((client_id IS NULL) = (client_secret IS NULL)),
    CHECK (NOT enabled OR client_id IS NOT NULL)
);

-- Whose account an issuer's subject signs in to. Never by e-mail: addresses are given to others.
CREATE TABLE identity (
    issuer     text NOT NULL REFERENCES identity_provider (issuer),
    subject    text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 255),
    account_id uuid NOT NULL REFERENCES account,
    linked_at  timestamptz NOT NULL,
    linked_by  text NOT NULL,
    used_at    timestamptz,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identity_account ON identity (account_id);

-- On the way to a provider and back, once, in the same browser. With an account: to link it; with a
-- link's hash: by the link that somebody made for it.
CREATE TABLE identity_flow (
    state_hash   bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    provider_id  uuid NOT NULL REFERENCES identity_provider,
    account_id   uuid REFERENCES account,
    link_hash    bytea,
    following    text NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX identity_flow_expires ON identity_flow (expires_at);
