-- The first id handed out is the highest one present plus one, or 10000 in an empty table.
DO $$
DECLARE
    owned record;
    highest bigint;
BEGIN
    FOR owned IN
        SELECT s.relname AS sequence, t.relname AS relation, a.attname AS attribute
        FROM pg_class AS s
        JOIN pg_depend AS d ON d.objid = s.oid AND d.deptype = 'a' AND d.classid = 'pg_class'::regclass
        JOIN pg_class AS t ON t.oid = d.refobjid
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        WHERE s.relkind = 'S' AND s.relnamespace = 'public'::regnamespace AND t.relname <> 'events'
    LOOP
        EXECUTE format('SELECT max(%I) FROM public.%I', owned.attribute, owned.relation) INTO highest;
        PERFORM setval(format('public.%I', owned.sequence)::regclass, coalesce(highest + 1, 10000), false);
    END LOOP;
END $$;
