-- Cancelling everything at once is a freeze of what was asked for before, which ends when the sweeper
-- has cancelled the last of it.
ALTER TABLE command_freeze ADD COLUMN cancels boolean NOT NULL DEFAULT false;
