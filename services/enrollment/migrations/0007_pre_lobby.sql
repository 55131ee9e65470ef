-- The lobby (decision 56). Hardware that may enroll with any credential that is bound to the list.
CREATE TABLE listed_serial (
    serial text PRIMARY KEY,        -- upper case, without spaces around it
    note text,
    added_by text NOT NULL,
    added_at timestamptz NOT NULL
);

-- serials: what an enrollment with it must show. leaked_at: since when somebody is known to hold its
-- address who never got a profile for it.
ALTER TABLE credential
    ADD COLUMN serials text NOT NULL DEFAULT 'listed' CHECK (serials IN ('listed', 'any')),
    ADD COLUMN leaked_at timestamptz;

-- Where a credential was used from, and where it was asked for in vain.
CREATE TABLE credential_address (
    credential_id uuid NOT NULL,
    address text NOT NULL,
    handed integer NOT NULL DEFAULT 0,
    refused integer NOT NULL DEFAULT 0,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (credential_id, address)
) WITH (fillfactor = 80);

-- address: who asked for the profile, as a network; NULL where the peer says nothing of the asker.
-- suspicions: what spoke against it then; a check-in reads them with the session.
ALTER TABLE session
    ADD COLUMN address text,
    ADD COLUMN suspicions text[] NOT NULL DEFAULT '{}';
CREATE INDEX session_address ON session (address, session_id) WHERE address IS NOT NULL;

-- Who waits for a person, and what became of it. Only these have a row: other enrollments pay nothing.
CREATE TABLE lobby (
    enrollment_id uuid PRIMARY KEY, -- rises with time
    device_id uuid NOT NULL,
    udid text NOT NULL,
    conflicts_with uuid,            -- the device whose names it claims
    reasons text[] NOT NULL,
    score integer NOT NULL,
    credential_id uuid,
    handed_to text,                 -- where its profile was asked for
    address text,                   -- where it checked in from
    waits_since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decision text CHECK (decision IN ('released', 'refused', 'expired', 'left')),
    decided_by text,
    decided_at timestamptz,
    decision_reason text
);
CREATE INDEX lobby_waiting ON lobby (expires_at) WHERE decision IS NULL;
CREATE INDEX lobby_refused ON lobby (udid) WHERE decision = 'refused';
CREATE INDEX lobby_credential ON lobby (credential_id, enrollment_id);
CREATE INDEX lobby_address ON lobby (address, enrollment_id);
CREATE INDEX lobby_decided ON lobby (decided_at) WHERE decision IS NOT NULL;

INSERT INTO lobby (enrollment_id, device_id, udid, reasons, score, credential_id, waits_since,
                   expires_at)
SELECT enrollment_id, device_id, udid, ARRAY['hardware_known'], 100, credential_id, authenticated_at,
       now() + interval '7 days'
FROM enrollment WHERE state = 'quarantined';
