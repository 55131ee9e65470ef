-- What the console's own look at its audit found; one row.
CREATE TABLE audit_check (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    checked_at timestamptz NOT NULL,
    -- Up to which root, and when it was signed; the next look begins there.
    root       bigint,
    signed_at  timestamptz,
    -- When everything that is kept was looked at, and how much that was.
    whole_at   timestamptz NOT NULL,
    links      bigint NOT NULL,
    fault_kind text,
    fault      text
);
