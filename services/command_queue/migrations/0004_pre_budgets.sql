-- Whose charge it is, and of which class: budgets are of an actor and of everybody together.
ALTER TABLE charge ADD COLUMN command_class text NOT NULL DEFAULT 'destructive';
ALTER TABLE charge ADD COLUMN actor text NOT NULL DEFAULT '';
ALTER TABLE charge ALTER COLUMN command_class DROP DEFAULT, ALTER COLUMN actor DROP DEFAULT;
DROP INDEX charge_time;
CREATE INDEX charge_of_all ON charge (command_class, charged_at) INCLUDE (targets);
CREATE INDEX charge_of_actor ON charge (actor, command_class, charged_at) INCLUDE (targets);
CREATE INDEX charge_time ON charge (charged_at);

-- Devices seen in the last thirty days, counted by a job: what shares of the fleet are shares of.
-- Zero until it was counted: then only what any fleet may lose goes.
ALTER TABLE installation ADD COLUMN fleet integer NOT NULL DEFAULT 0;
