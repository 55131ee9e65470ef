-- The newest commands of people with rights on some groups, found without reading everybody's.
CREATE INDEX past_command_reach ON past_command (command_id) WHERE reach IS NOT NULL;
