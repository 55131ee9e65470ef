-- What the role has that `muster run webhooks` signs in as (decision 70). Said anew with every
-- migration, since the role may be made later; where there is none, nothing happens.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'muster_webhooks') THEN
        GRANT USAGE ON SCHEMA muster_console TO muster_webhooks;
        GRANT SELECT ON schema_migration TO muster_webhooks;
        GRANT SELECT (webhook_id, url, secret, enabled, alarms_until, failures, rests_until),
              UPDATE (failures, rests_until)
            ON webhook TO muster_webhooks;
        GRANT SELECT, DELETE, UPDATE (state, attempts, next_at, last_at, last_result)
            ON delivery TO muster_webhooks;
    END IF;
END
$$;
