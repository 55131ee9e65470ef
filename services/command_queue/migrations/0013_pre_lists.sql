-- Lists of commands by state: what did not simply finish is little, among years that did.
CREATE INDEX past_command_state ON past_command (state, command_id) WHERE state <> 'finished';
CREATE INDEX command_not_active ON command (state, command_id) WHERE state <> 'active';
