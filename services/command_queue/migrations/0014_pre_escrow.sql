-- PINs that devices are locked by (docs/decisions/0061-a-pin-stays-where-it-was-made.md): written
-- with the command that carries them, and kept when its history is gone.
CREATE TABLE escrow (
    secret_id uuid PRIMARY KEY,
    device_id uuid NOT NULL,
    command_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('lock_pin', 'erase_pin')),
    sealed bytea NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX escrow_of_device ON escrow (device_id, secret_id DESC);

-- Who was shown one, for the budget of reveals; the audit says why.
CREATE TABLE reveal (
    reveal_id uuid PRIMARY KEY,
    secret_id uuid NOT NULL,
    actor text NOT NULL,
    revealed_at timestamptz NOT NULL
);
CREATE INDEX reveal_of_actor ON reveal (actor, revealed_at);
CREATE INDEX reveal_by_time ON reveal (revealed_at);
