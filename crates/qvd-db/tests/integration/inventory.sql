-- What the catalog says, in the words of inventory.txt: (relation, item, name of the item, position).
WITH named AS (
    SELECT c.oid, c.relname, c.relkind,
        CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'v' THEN 'view ' ELSE 'sequence ' END || c.relname AS relation
    FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
)
SELECT relation, NULL AS item, NULL AS name, 0 AS position FROM named
UNION ALL
SELECT 'enum ' || t.typname, 'values ' || string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder), NULL, 0
FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.typname
UNION ALL
SELECT relation, 'column ' || a.attname || CASE
        WHEN relkind = 'v' THEN ''
        WHEN pg_get_expr(d.adbin, d.adrelid) = format('nextval(''%s_id_seq''::regclass)', relname)
            AND a.atttypid = 'integer'::regtype AND a.attnotnull THEN ' serial'
        ELSE ' ' || replace(replace(format_type(a.atttypid, a.atttypmod), 'character varying', 'varchar'),
                'timestamp without time zone', 'timestamp')
            || CASE WHEN a.attnotnull THEN '!' ELSE '' END
            || coalesce(' = ' || trim(both '''' from split_part(pg_get_expr(d.adbin, d.adrelid), '::', 1)), '')
    END, NULL, a.attnum
FROM named JOIN pg_attribute AS a ON a.attrelid = named.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE relkind IN ('r', 'v')
UNION ALL
SELECT relation, CASE k.contype WHEN 'p' THEN 'primary ' WHEN 'u' THEN 'unique ' WHEN 'f' THEN 'foreign '
        ELSE 'other ' || k.contype::text || ' ' END
    || (SELECT string_agg(a.attname, ' ' ORDER BY u.ordinality) FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum)
    || CASE WHEN k.contype <> 'f' THEN '' ELSE ' -> ' || k.confrelid::regclass || '.'
        || (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1])
        || CASE k.confdeltype WHEN 'a' THEN '' WHEN 'c' THEN ' delete cascade' ELSE ' delete ?' END
        || CASE k.confupdtype WHEN 'a' THEN '' WHEN 'c' THEN ' update cascade' ELSE ' update ?' END
        || CASE WHEN k.condeferrable AND NOT k.condeferred THEN '' ELSE ' not deferrable' END END,
    k.conname, 0
FROM named JOIN pg_constraint AS k ON k.conrelid = named.oid WHERE k.contype <> 't'
UNION ALL
SELECT relation, 'index ' || (SELECT string_agg(a.attname, ' ' ORDER BY u.ordinality)
        FROM unnest(i.indkey) WITH ORDINALITY AS u (attnum)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum),
    i.indexrelid::regclass::text, 0
FROM named JOIN pg_index AS i ON i.indrelid = named.oid
WHERE NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))
UNION ALL
SELECT relation, 'trigger ' || t.tgname || CASE t.tgtype WHEN 5 THEN ' insert' WHEN 9 THEN ' delete' WHEN 17 THEN
        ' update' WHEN 29 THEN ' insert or update or delete' ELSE ' type ' || t.tgtype END
    || coalesce((SELECT ' of ' || string_agg(a.attname, ' ' ORDER BY u.ordinality)
        FROM unnest(t.tgattr) WITH ORDINALITY AS u (attnum)
        JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attnum = u.attnum), '')
    || ' ' || t.tgfoid::regproc, NULL, 0
FROM named JOIN pg_trigger AS t ON t.tgrelid = named.oid AND NOT t.tgisinternal
ORDER BY 1, 4, 2
