-- What a new database starts with. Ids are those of existing databases; ACLs come from the registry in code.

INSERT INTO vm_states VALUES ('stopped'), ('starting'), ('running'), ('stopping'), ('zombie'), ('debugging');
INSERT INTO vm_cmds VALUES ('start'), ('stop'), ('busy');
INSERT INTO user_states VALUES ('disconnected'), ('connecting'), ('connected');
INSERT INTO user_cmds VALUES ('abort');
INSERT INTO host_states VALUES ('stopped'), ('starting'), ('running'), ('stopping'), ('lost');
INSERT INTO host_cmds VALUES ('stop');

INSERT INTO versions (component, version) VALUES ('schema', '4.3.0');

INSERT INTO tenants (id, name, description, blocked) VALUES
    (-1, '-', 'invalid tenant', false),
    (0, '*', 'supertenant', false),
    (1, 'default', 'tenant1', false);

-- The recovery administrator has a password that nobody knows until one is set; the other two are given theirs by
-- whoever deploys.
INSERT INTO administrators (id, name, tenant_id, password) VALUES
    (0, 'batman', 0, '!'),
    (1, 'superadmin', 0, '!'),
    (2, 'admin', 1, '!');

INSERT INTO wat_setups_by_administrators (id, administrator_id, block, language) VALUES
    (0, 0, 10, 'auto'), (1, 1, 10, 'auto'), (2, 2, 10, 'auto');
INSERT INTO wat_setups_by_tenants (id, tenant_id, block, language) VALUES (0, 0, 10, 'auto'), (1, 1, 10, 'auto');

INSERT INTO configs (tenant_id, key, value) VALUES
    (-1, 'wat.multitenant', '1'),
    (-1, 'api.public.footer.link.1.label.default', 'Qindel Group (c) 2018'),
    (-1, 'api.public.footer.link.1.src.default', 'http://qindel.com/'),
    (-1, 'api.public.footer.link.2.label.default', 'Contact'),
    (-1, 'api.public.footer.link.2.src.default', 'http://theqvd.com/contact'),
    (-1, 'api.public.footer.link.2.src.es', 'http://theqvd.com/es/contacto');

INSERT INTO roles (id, name, fixed, internal, tenant_id) VALUES
    (1, 'Administrators Creator', true, true, -1),
    (2, 'Administrators Eraser', true, true, -1),
    (3, 'Administrators Manager', true, true, -1),
    (4, 'Administrators Operator', true, true, -1),
    (5, 'Administrators Reader', true, true, -1),
    (6, 'Administrators Updater', true, true, -1),
    (7, 'Images Creator', true, true, -1),
    (8, 'Images Eraser', true, true, -1),
    (9, 'Images Manager', true, true, -1),
    (10, 'Images Operator', true, true, -1),
    (11, 'Images Reader', true, true, -1),
    (12, 'Images Updater', true, true, -1),
    (13, 'Logs Manager', true, true, -1),
    (14, 'Master', true, true, -1),
    (15, 'Nodes Creator', true, true, -1),
    (16, 'Nodes Eraser', true, true, -1),
    (17, 'Nodes Manager', true, true, -1),
    (18, 'Nodes Operator', true, true, -1),
    (19, 'Nodes Reader', true, true, -1),
    (20, 'Nodes Updater', true, true, -1),
    (21, 'Operator L1', true, false, -1),
    (22, 'Operator L2', true, false, -1),
    (23, 'Operator L3', true, false, -1),
    (24, 'OSFs Creator', true, true, -1),
    (25, 'OSFs Eraser', true, true, -1),
    (26, 'OSFs Manager', true, true, -1),
    (27, 'OSFs Operator', true, true, -1),
    (28, 'OSFs Reader', true, true, -1),
    (29, 'OSFs Updater', true, true, -1),
    (30, 'QVD Config Manager', true, true, -1),
    (31, 'QVD Creator', true, true, -1),
    (32, 'QVD Eraser', true, true, -1),
    (33, 'QVD Manager', true, true, -1),
    (34, 'QVD Operator', true, true, -1),
    (35, 'QVD Reader', true, true, -1),
    (36, 'QVD Updater', true, true, -1),
    (37, 'Roles Creator', true, true, -1),
    (38, 'Roles Eraser', true, true, -1),
    (39, 'Roles Manager', true, true, -1),
    (40, 'Roles Operator', true, true, -1),
    (41, 'Roles Reader', true, true, -1),
    (42, 'Roles Updater', true, true, -1),
    (43, 'Root', true, false, -1),
    (44, 'Tenants Creator', true, true, -1),
    (45, 'Tenants Eraser', true, true, -1),
    (46, 'Tenants Manager', true, true, -1),
    (47, 'Tenants Operator', true, true, -1),
    (48, 'Tenants Reader', true, true, -1),
    (49, 'Tenants Updater', true, true, -1),
    (50, 'Total Master', true, true, -1),
    (51, 'Users Creator', true, true, -1),
    (52, 'Users Eraser', true, true, -1),
    (53, 'Users Manager', true, true, -1),
    (54, 'Users Operator', true, true, -1),
    (55, 'Users Reader', true, true, -1),
    (56, 'Users Updater', true, true, -1),
    (57, 'Views Manager', true, true, -1),
    (58, 'Views Operator', true, true, -1),
    (59, 'Views Reader', true, true, -1),
    (60, 'VMs Creator', true, true, -1),
    (61, 'VMs Eraser', true, true, -1),
    (62, 'VMs Manager', true, true, -1),
    (63, 'VMs Operator', true, true, -1),
    (64, 'VMs Reader', true, true, -1),
    (65, 'VMs Updater', true, true, -1),
    (66, 'WAT Config Manager', true, true, -1),
    (67, 'WAT Manager', true, true, -1);

INSERT INTO role_role_relations (id, inheritor_id, inherited_id) VALUES
    (1, 3, 1), (2, 3, 2), (3, 3, 4), (4, 3, 5), (5, 3, 6), (6, 9, 7), (7, 9, 8), (8, 9, 10),
    (9, 9, 11), (10, 9, 12), (11, 14, 33), (12, 14, 67), (13, 17, 15), (14, 17, 16), (15, 17, 18), (16, 17, 19),
    (17, 17, 20), (18, 21, 35), (19, 22, 21), (20, 22, 34), (21, 23, 17), (22, 23, 22), (23, 23, 31), (24, 23, 32),
    (25, 23, 36), (26, 26, 24), (27, 26, 25), (28, 26, 27), (29, 26, 28), (30, 26, 29), (31, 31, 7), (32, 31, 24),
    (33, 31, 51), (34, 31, 60), (35, 32, 8), (36, 32, 25), (37, 32, 52), (38, 32, 61), (39, 33, 9), (40, 33, 26),
    (41, 33, 30), (42, 33, 53), (43, 33, 62), (44, 34, 10), (45, 34, 27), (46, 34, 54), (47, 34, 63), (48, 35, 11),
    (49, 35, 28), (50, 35, 55), (51, 35, 64), (52, 36, 12), (53, 36, 29), (54, 36, 56), (55, 36, 65), (56, 39, 37),
    (57, 39, 38), (58, 39, 40), (59, 39, 41), (60, 39, 42), (61, 43, 50), (62, 46, 44), (63, 46, 45), (64, 46, 47),
    (65, 46, 48), (66, 46, 49), (67, 50, 14), (68, 50, 17), (69, 50, 46), (70, 53, 51), (71, 53, 52), (72, 53, 54),
    (73, 53, 55), (74, 53, 56), (75, 57, 58), (76, 57, 59), (77, 62, 60), (78, 62, 61), (79, 62, 63), (80, 62, 64),
    (81, 62, 65), (82, 67, 3), (83, 67, 13), (84, 67, 39), (85, 67, 57), (86, 67, 66);

INSERT INTO acl_role_relations (role_id, acl_id, positive) VALUES
    (1, 1, true), (1, 2, true), (2, 3, true), (4, 19, true), (5, 8, true), (5, 9, true), (5, 10, true), (5, 11, true),
    (5, 12, true), (5, 13, true), (5, 14, true), (5, 15, true), (5, 16, true), (5, 17, true), (5, 18, true), (6, 20, true),
    (6, 21, true), (6, 24, true), (7, 27, true), (7, 28, true), (7, 29, true), (7, 30, true), (7, 31, true), (7, 332, true),
    (8, 32, true), (10, 61, true), (10, 62, true), (11, 40, true), (11, 41, true), (11, 42, true), (11, 43, true), (11, 44, true),
    (11, 45, true), (11, 46, true), (11, 47, true), (11, 48, true), (11, 49, true), (11, 50, true), (11, 51, true), (11, 52, true),
    (11, 53, true), (11, 54, true), (11, 55, true), (11, 56, true), (11, 57, true), (11, 58, true), (11, 59, true), (11, 60, true),
    (12, 63, true), (12, 68, true), (12, 69, true), (12, 333, true), (12, 334, true), (12, 335, true), (13, 118, true), (13, 119, true),
    (13, 120, true), (13, 121, true), (13, 122, true), (13, 123, true), (15, 70, true), (15, 71, true), (16, 72, true), (18, 103, true),
    (18, 111, true), (19, 81, true), (19, 82, true), (19, 83, true), (19, 84, true), (19, 85, true), (19, 86, true), (19, 87, true),
    (19, 88, true), (19, 89, true), (19, 90, true), (19, 91, true), (19, 92, true), (19, 93, true), (19, 94, true), (19, 95, true),
    (19, 96, true), (19, 97, true), (19, 98, true), (19, 99, true), (19, 100, true), (19, 101, true), (20, 102, true), (20, 104, true),
    (20, 109, true), (20, 110, true), (21, 157, true), (21, 326, false), (24, 124, true), (24, 125, true), (24, 126, true), (24, 127, true),
    (25, 128, true), (27, 143, true), (27, 157, true), (28, 136, true), (28, 137, true), (28, 138, true), (28, 139, true), (28, 140, true),
    (28, 141, true), (28, 142, true), (28, 144, true), (28, 145, true), (28, 146, true), (28, 147, true), (28, 148, true), (28, 149, true),
    (28, 150, true), (28, 151, true), (28, 152, true), (28, 153, true), (28, 154, true), (28, 155, true), (28, 156, true), (28, 157, true),
    (28, 158, true), (28, 159, true), (28, 160, true), (29, 161, true), (29, 166, true), (29, 167, true), (29, 168, true), (29, 169, true),
    (30, 25, true), (30, 175, true), (30, 336, true), (37, 176, true), (38, 177, true), (40, 192, true), (40, 193, true), (41, 182, true),
    (41, 183, true), (41, 184, true), (41, 185, true), (41, 186, true), (41, 187, true), (41, 188, true), (41, 189, true), (41, 190, true),
    (41, 191, true), (42, 194, true), (42, 196, true), (43, 227, true), (43, 232, true), (43, 251, true), (44, 197, true), (45, 198, true),
    (45, 329, true), (47, 224, true), (48, 204, true), (48, 205, true), (48, 206, true), (48, 207, true), (48, 208, true), (48, 209, true),
    (48, 210, true), (48, 211, true), (48, 212, true), (48, 213, true), (48, 214, true), (48, 215, true), (48, 216, true), (48, 217, true),
    (48, 218, true), (48, 219, true), (48, 220, true), (48, 221, true), (48, 222, true), (48, 223, true), (49, 225, true), (49, 226, true),
    (49, 227, true), (49, 232, true), (51, 233, true), (51, 234, true), (52, 235, true), (54, 260, true), (55, 242, true), (55, 243, true),
    (55, 244, true), (55, 245, true), (55, 246, true), (55, 247, true), (55, 248, true), (55, 249, true), (55, 250, true), (55, 251, true),
    (55, 252, true), (55, 253, true), (55, 254, true), (55, 255, true), (55, 256, true), (55, 257, true), (55, 258, true), (55, 259, true),
    (56, 261, true), (56, 265, true), (56, 266, true), (58, 268, true), (58, 269, true), (58, 270, true), (59, 267, true), (60, 271, true),
    (60, 272, true), (60, 273, true), (61, 274, true), (63, 314, true), (63, 316, true), (63, 328, true), (63, 330, true), (63, 331, true),
    (64, 286, true), (64, 287, true), (64, 288, true), (64, 289, true), (64, 290, true), (64, 291, true), (64, 292, true), (64, 293, true),
    (64, 294, true), (64, 295, true), (64, 296, true), (64, 297, true), (64, 298, true), (64, 299, true), (64, 300, true), (64, 301, true),
    (64, 302, true), (64, 303, true), (64, 304, true), (64, 305, true), (64, 306, true), (64, 307, true), (64, 308, true), (64, 309, true),
    (64, 310, true), (64, 311, true), (64, 312, true), (64, 313, true), (65, 315, true), (65, 317, true), (65, 318, true), (65, 326, true),
    (65, 327, true), (66, 26, true);

INSERT INTO role_administrator_relations (id, role_id, administrator_id) VALUES (1, 43, 1), (2, 43, 2);

INSERT INTO log (id, administrator_id, administrator_name, tenant_id, tenant_name, action, type_of_action, arguments,
    qvd_object, object_id, object_name, time, status, superadmin) VALUES
    (0, 1, 'superadmin', -1, 'Invalid', 'tenant_create', 'create', '{}', 'tenant', 1, 'default', now(), 0, true),
    (1, 1, 'superadmin', -1, 'Invalid', 'admin_create', 'create', '{}', 'administrator', 1, 'superadmin', now(), 0, true),
    (2, 1, 'superadmin', -1, 'Invalid', 'admin_create', 'create', '{}', 'administrator', 2, 'admin', now(), 0, true),
    (3, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 21, 'Operator L1', now(), 0, true),
    (4, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 22, 'Operator L2', now(), 0, true),
    (5, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 23, 'Operator L3', now(), 0, true),
    (6, 1, 'superadmin', -1, 'Invalid', 'role_create', 'create', '{}', 'role', 43, 'Root', now(), 0, true);

UPDATE tenants SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1, creation_admin_name = 'superadmin'
    WHERE id = 1;
UPDATE administrators SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1,
    creation_admin_name = 'superadmin' WHERE id IN (1, 2);
UPDATE roles SET creation_date = now() AT TIME ZONE 'UTC', creation_admin_id = 1, creation_admin_name = 'superadmin'
    WHERE id IN (21, 22, 23, 43);
