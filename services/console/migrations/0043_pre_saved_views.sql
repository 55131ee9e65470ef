-- Lists of devices that somebody gave a name: what stands in the URL.
CREATE TABLE saved_view (
    view_id    uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account,
    name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    query      text NOT NULL,
    shared     boolean NOT NULL,
    made_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX saved_view_name ON saved_view (account_id, lower(name));
CREATE INDEX saved_view_shared ON saved_view (view_id) WHERE shared;
