-- A secret that was offered to an authenticator app waits for its first code, and not for ever.
ALTER TABLE totp ADD offered_at timestamptz;
UPDATE totp SET offered_at = now() WHERE offered IS NOT NULL;
ALTER TABLE totp ADD CHECK ((offered IS NULL) = (offered_at IS NULL));
CREATE INDEX totp_offered ON totp (offered_at) WHERE offered_at IS NOT NULL;
