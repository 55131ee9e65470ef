-- Who is told of events, and what waits to be told. The secret is encrypted for its row.
CREATE TABLE webhook (
    webhook_id  uuid PRIMARY KEY,
    name        text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    url         text NOT NULL CHECK (char_length(url) BETWEEN 1 AND 1000),
    secret      bytea NOT NULL,
    event_types text[] NOT NULL CHECK (event_types <> '{}'),
    group_id    uuid,
    enabled     boolean NOT NULL DEFAULT true,
    made_at     timestamptz NOT NULL,
    made_by     text NOT NULL,
    -- In a row, and until when it rests for them.
    failures    integer NOT NULL DEFAULT 0,
    rests_until timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE delivery (
    delivery_id uuid PRIMARY KEY,
    webhook_id  uuid NOT NULL REFERENCES webhook,
    event_id    uuid NOT NULL,
    event_type  text NOT NULL,
    subject     text NOT NULL,
    body        text NOT NULL,
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    attempts    integer NOT NULL DEFAULT 0,
    made_at     timestamptz NOT NULL,
    -- When it is next tried; while one is at it: when another may.
    next_at     timestamptz NOT NULL,
    last_at     timestamptz,
    last_result text,
    UNIQUE (webhook_id, event_id)
);
CREATE INDEX delivery_waiting ON delivery (webhook_id, next_at, delivery_id) WHERE state = 'waiting';
CREATE INDEX delivery_listed ON delivery (webhook_id, delivery_id);
CREATE INDEX delivery_over ON delivery (made_at) WHERE state <> 'waiting';
