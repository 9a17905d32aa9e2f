-- The words that states and commands may have, and the version of the schema.

INSERT INTO vm_states VALUES ('stopped'), ('starting'), ('running'), ('stopping'), ('zombie'), ('debugging');
INSERT INTO vm_cmds VALUES ('start'), ('stop'), ('busy');
INSERT INTO user_states VALUES ('disconnected'), ('connecting'), ('connected');
INSERT INTO user_cmds VALUES ('abort');
INSERT INTO host_states VALUES ('stopped'), ('starting'), ('running'), ('stopping'), ('lost');
INSERT INTO host_cmds VALUES ('stop');

INSERT INTO versions (component, version) VALUES ('schema', '4.3.0');
