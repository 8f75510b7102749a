-- Roles for sso-hsm on PostgreSQL. As a superuser, in the database that is to hold the credentials:
--   psql -X -v ON_ERROR_STOP=1 -d sso -f postgresql-roles.sql
-- once before `sso-hsm init` (or `db copy`), and again after it and after each `db upgrade`, when the
-- tables are there to be granted. May be run at any time; takes nothing away that the service needs.
--
--   sso_hsm_admin  owns the tables: init, db upgrade, and db copy into this database
--   sso_hsm        the service and every other command: reads and writes rows, and neither makes,
--                  alters nor drops anything; never changes or deletes a record of the audit.
--                  So `audit prune` is refused, unless somebody also does
--                      GRANT DELETE ON sso_hsm.audit, sso_hsm.audit_signatures TO sso_hsm;
--                      GRANT INSERT, UPDATE ON sso_hsm.audit_bases TO sso_hsm;
--
-- How they log in is pg_hba.conf's matter: peer on a socket, or `hostssl … scram-sha-256` or `cert`.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sso_hsm_admin') THEN
        CREATE ROLE sso_hsm_admin LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sso_hsm') THEN
        CREATE ROLE sso_hsm LOGIN;
    END IF;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;

CREATE SCHEMA IF NOT EXISTS sso_hsm AUTHORIZATION sso_hsm_admin;
ALTER ROLE sso_hsm_admin SET search_path = sso_hsm;
ALTER ROLE sso_hsm SET search_path = sso_hsm;
GRANT USAGE ON SCHEMA sso_hsm TO sso_hsm;

DO $$
DECLARE
    -- What the service may do with each table besides reading it.
    rights CONSTANT jsonb := '{
        "system": "", "schema_migrations": "",
        "audit": "INSERT", "audit_keys": "INSERT", "audit_signatures": "INSERT",
        "audit_bases": "",
        "share_sets": "INSERT",
        "master_lease": "INSERT, UPDATE",
        "tickets_redeemed": "INSERT, DELETE",
        "generations": "INSERT, UPDATE", "generation_tokens": "INSERT, UPDATE",
        "destructions": "INSERT, UPDATE", "rotations": "INSERT, UPDATE",
        "settings": "INSERT, UPDATE", "sealed_keys": "INSERT, UPDATE"}';
    name text;
    wanted text;
BEGIN
    FOR name IN SELECT relname FROM pg_class
                WHERE relnamespace = 'sso_hsm'::regnamespace AND relkind = 'r' LOOP
        wanted := coalesce(rights ->> name, 'INSERT, UPDATE, DELETE');
        EXECUTE format('REVOKE ALL ON sso_hsm.%I FROM sso_hsm', name);
        EXECUTE format('GRANT SELECT%s ON sso_hsm.%I TO sso_hsm',
                       CASE wanted WHEN '' THEN '' ELSE ', ' || wanted END, name);
    END LOOP;
END $$;
