-- That somebody proved themselves again, for one request: spent by it, or over after two minutes.
CREATE TABLE step_up (
    session_id uuid NOT NULL REFERENCES session ON DELETE CASCADE,
    digest     bytea NOT NULL,
    proven_at  timestamptz NOT NULL,
    PRIMARY KEY (session_id, digest)
);
