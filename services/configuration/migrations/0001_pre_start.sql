-- What configuration knows: devices as enrollment tells of them, and sets of declarations.

-- sequence: of the newest device-state event; 0 is a shell row of a device not yet heard of.
CREATE TABLE device (
    device_id     uuid PRIMARY KEY,
    sequence      bigint NOT NULL DEFAULT 0,
    platform      text NOT NULL DEFAULT 'unknown',
    enrollment_id uuid,
    managed       boolean NOT NULL DEFAULT false
);

-- A set never changes: a device whose declarations change is given another. items: what
-- `declaration-items` answers under Declarations.
CREATE TABLE declaration_set (
    token   text PRIMARY KEY,
    items   jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO declaration_set (token, items) VALUES (
    'empty', '{"Activations": [], "Configurations": [], "Assets": [], "Management": []}'
);
