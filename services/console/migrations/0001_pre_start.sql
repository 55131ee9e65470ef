-- What the console knows: whether the installation is set up, and what everybody did.

-- Locked by the runner before events about a device; nothing else is kept of it yet.
CREATE TABLE device (
    device_id uuid PRIMARY KEY
);

-- One row, made by the first start. A token is kept as a hash and only until it is spent.
CREATE TABLE setup (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    token_hash bytea,
    expires_at timestamptz,
    done_at    timestamptz,
    CHECK ((token_hash IS NULL) = (expires_at IS NULL)),
    CHECK (done_at IS NULL OR token_hash IS NULL)
);

-- event_id is a UUIDv7: it orders by time. recorded_at is ours, occurred_at the sender's.
CREATE TABLE audit (
    event_id       uuid PRIMARY KEY,
    audit_id       uuid NOT NULL,
    service        text NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    actor          text NOT NULL,
    permission     text NOT NULL,
    action         text NOT NULL,
    target         text NOT NULL,
    before         jsonb,
    after          jsonb,
    reason         text,
    source         text,
    correlation_id text
);
CREATE INDEX audit_actor ON audit (actor, event_id);
CREATE INDEX audit_target ON audit (target, event_id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
