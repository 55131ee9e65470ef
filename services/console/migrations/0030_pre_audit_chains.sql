-- The audit as chains of hashes (decision 54). What was recorded before is of no chain and was never
-- promised to anybody: no release had it.
DROP TABLE audit;
DROP FUNCTION refuse_change();

-- One for each partition of each audit topic: its last link. Whoever adds links holds the row.
CREATE TABLE audit_chain (
    chain_id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic            text NOT NULL,
    partition_number integer NOT NULL,
    position         bigint NOT NULL DEFAULT 0,
    hash             bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    recorded_at      timestamptz NOT NULL DEFAULT '-infinity',
    UNIQUE (topic, partition_number)
) WITH (fillfactor = 20);

-- recorded_at never falls along a chain, so that dropping old partitions cuts its beginning off.
-- event_id: a UUIDv7, which lists are ordered by. What comes after permission may be erased.
CREATE TABLE audit (
    chain_id       integer NOT NULL,
    position       bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    record_offset  bigint NOT NULL,
    previous       bytea NOT NULL,
    hash           bytea NOT NULL,
    content_hash   bytea NOT NULL,
    event_id       uuid NOT NULL,
    service        text NOT NULL,
    occurred_at    timestamptz NOT NULL,
    action         text NOT NULL,
    permission     text NOT NULL,
    salt           bytea,
    audit_id       uuid,
    actor          text,
    target         text,
    before         text,
    after          text,
    reason         text,
    source         text,
    correlation_id text,
    erased_at      timestamptz,
    PRIMARY KEY (chain_id, position, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
CREATE INDEX audit_event ON audit (event_id);
CREATE INDEX audit_actor ON audit (actor, event_id);
CREATE INDEX audit_target ON audit (target, event_id);
CREATE INDEX audit_action ON audit (action, event_id);
CREATE INDEX audit_service ON audit (service, event_id);
CREATE INDEX audit_correlation ON audit (correlation_id, event_id);

-- Against mistakes; against intent there is the chain. Rows leave the default partition for one of
-- their own.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_default' THEN
        RETURN OLD;
    ELSIF TG_OP = 'UPDATE' AND num_nulls(NEW.salt, NEW.audit_id, NEW.actor, NEW.target, NEW.before,
            NEW.after, NEW.reason, NEW.source, NEW.correlation_id) = 9
        AND NEW.erased_at IS NOT NULL
        AND (NEW.chain_id, NEW.position, NEW.recorded_at, NEW.record_offset, NEW.previous, NEW.hash,
             NEW.content_hash, NEW.event_id, NEW.service, NEW.occurred_at, NEW.action,
             NEW.permission)
          = (OLD.chain_id, OLD.position, OLD.recorded_at, OLD.record_offset, OLD.previous, OLD.hash,
             OLD.content_hash, OLD.event_id, OLD.service, OLD.occurred_at, OLD.action,
             OLD.permission)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE FUNCTION refuse_emptying() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_emptying();
