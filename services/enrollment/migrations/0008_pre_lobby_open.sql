-- Who waits, newest first: the lobby's own page.
CREATE INDEX lobby_open ON lobby (enrollment_id) WHERE decision IS NULL;
