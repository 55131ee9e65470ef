-- How far the round has come in which every device's state is told anew (decision 31): the next
-- devices are those behind this id.
CREATE TABLE retelling (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    after uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO retelling DEFAULT VALUES;
