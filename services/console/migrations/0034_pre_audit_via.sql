-- By which session or API token somebody acted: a token acts in its owner's name. It is part of what
-- is hashed, so chains begin anew; no release had the old ones.
ALTER TABLE audit ADD COLUMN via text;
ALTER TABLE audit DISABLE TRIGGER audit_is_not_emptied;
TRUNCATE audit, audit_chain, audit_root, audit_root_head, audit_check;
ALTER TABLE audit ENABLE TRIGGER audit_is_not_emptied;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_default' THEN
        RETURN OLD;
    ELSIF TG_OP = 'UPDATE' AND num_nulls(NEW.salt, NEW.audit_id, NEW.actor, NEW.target, NEW.before,
            NEW.after, NEW.reason, NEW.source, NEW.via, NEW.correlation_id) = 10
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
