-- A personal device that somebody wants to be the organisation's: new power over it waits, and can be
-- vetoed (security.md, The guard).
CREATE TABLE ownership_wait (
    device_id uuid PRIMARY KEY,
    ownership text NOT NULL,
    actor text NOT NULL,
    asked_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL
);
CREATE INDEX ownership_wait_due ON ownership_wait (due_at);
