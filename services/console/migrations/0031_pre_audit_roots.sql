-- Signed statements about all chains, one a minute (decision 54).
CREATE TABLE audit_root (
    number    bigint PRIMARY KEY,
    signed_at timestamptz NOT NULL,
    previous  bytea NOT NULL,
    heads     bytea NOT NULL,
    chains    integer NOT NULL,
    links     bigint NOT NULL,
    key_id    text NOT NULL,
    hash      bytea NOT NULL,
    signature bytea NOT NULL
);
CREATE INDEX audit_root_signed ON audit_root (signed_at);

-- The chains that had moved since the root before; those of a root are the newest up to it.
CREATE TABLE audit_root_head (
    number   bigint NOT NULL,
    chain_id integer NOT NULL,
    position bigint NOT NULL,
    hash     bytea NOT NULL,
    PRIMARY KEY (chain_id, number)
);
CREATE INDEX audit_root_head_number ON audit_root_head (number);

-- Public halves of what roots were signed with; they stay as long as the roots.
CREATE TABLE audit_key (
    key_id     text PRIMARY KEY,
    public_key bytea NOT NULL,
    first_used timestamptz NOT NULL
);
