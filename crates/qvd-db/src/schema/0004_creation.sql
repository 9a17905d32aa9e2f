-- Who made an object, and when, stands with the object: the log may then be trimmed.

ALTER TABLE users
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE vms
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE hosts
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE osfs
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE dis
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE tenants
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE administrators
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);
ALTER TABLE roles
    ADD COLUMN creation_date timestamp without time zone,
    ADD COLUMN creation_admin_id integer,
    ADD COLUMN creation_admin_name varchar(80);

-- Existing databases have it in the log only; of several rows the first counts.
UPDATE users SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'user' AND object_id = users.id ORDER BY id LIMIT 1);
UPDATE vms SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'vm' AND object_id = vms.id ORDER BY id LIMIT 1);
UPDATE hosts SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'host' AND object_id = hosts.id ORDER BY id LIMIT 1);
UPDATE osfs SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'osf' AND object_id = osfs.id ORDER BY id LIMIT 1);
UPDATE dis SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'di' AND object_id = dis.id ORDER BY id LIMIT 1);
UPDATE tenants SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'tenant' AND object_id = tenants.id ORDER BY id LIMIT 1);
UPDATE administrators SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'administrator' AND object_id = administrators.id ORDER BY id LIMIT 1);
UPDATE roles SET (creation_date, creation_admin_id, creation_admin_name) =
    (SELECT time, administrator_id, administrator_name FROM log
     WHERE type_of_action = 'create' AND qvd_object = 'role' AND object_id = roles.id ORDER BY id LIMIT 1);
