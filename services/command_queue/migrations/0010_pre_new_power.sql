-- What a key said, whole: its signature is verified again when what was approved begins.
ALTER TABLE approval
    ADD COLUMN client_data        bytea NOT NULL DEFAULT '',
    ADD COLUMN authenticator_data bytea NOT NULL DEFAULT '',
    ADD COLUMN signature          bytea NOT NULL DEFAULT '';

-- When this service first heard of an account, and of the latest change of how its person comes in
-- (reset, linked sign-in, enabled again): nobody is made older than that.
-- Vetoed: what was young then counts no more, until it is taken away and given anew.
ALTER TABLE approver
    ADD COLUMN heard_at   timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN renewed_at timestamptz,
    ADD COLUMN vetoed_at  timestamptz;
ALTER TABLE approver_right ADD COLUMN vetoed_at timestamptz;
ALTER TABLE approver_key ADD COLUMN vetoed_at timestamptz;
