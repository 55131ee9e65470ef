-- When APNs was heard to take a certificate: only the first of all is used before (decision 63).
ALTER TABLE push_certificate ADD COLUMN tried_at timestamptz;

-- What was replaced under the same topic, so that one step leads back.
CREATE TABLE former_push_certificate (
    fingerprint text PRIMARY KEY,
    topic       text NOT NULL,
    certificate text NOT NULL,
    key         bytea NOT NULL,
    not_after   timestamptz NOT NULL,
    uploaded_at timestamptz NOT NULL,
    uploaded_by text NOT NULL,
    replaced_at timestamptz NOT NULL
);
