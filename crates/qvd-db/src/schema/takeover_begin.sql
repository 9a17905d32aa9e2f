-- Moves the relations of an older version aside, with the types, functions and sequences that belong to them.
-- What an administrator added beside them stays where it is.
CREATE SCHEMA qvd_before;
DROP VIEW IF EXISTS public.all_acl_role_relations, public.all_role_role_relations,
    public.operative_views_in_administrators, public.operative_views_in_tenants;
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT DISTINCT format('ALTER FUNCTION %s SET SCHEMA qvd_before', t.tgfoid::regprocedure)
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE c.relnamespace = 'public'::regnamespace AND p.pronamespace = 'public'::regnamespace
            AND NOT t.tgisinternal AND c.relname = ANY (string_to_array(current_setting('qvd.relations'), ' '))
        UNION ALL
        SELECT format('ALTER TABLE public.%I SET SCHEMA qvd_before', relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND relname = ANY (string_to_array(current_setting('qvd.relations'), ' '))
        UNION ALL
        SELECT format('ALTER TYPE public.%I SET SCHEMA qvd_before', typname) FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
            AND typname = ANY (string_to_array(current_setting('qvd.types'), ' '))
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
