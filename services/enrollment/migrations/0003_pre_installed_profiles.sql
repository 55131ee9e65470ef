-- The profile of another server that an imported device has installed, as far as a renewal must
-- repeat it. holder: the enrollment, or the session of a certificate that was only registered.
CREATE TABLE installed_profile (
    holder uuid PRIMARY KEY,
    profile jsonb NOT NULL
);
