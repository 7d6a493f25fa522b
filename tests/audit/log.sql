CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY, tx_id bigint NOT NULL DEFAULT txid_current(), statement_at timestamptz NOT NULL DEFAULT statement_timestamp(),
  table_schema text NOT NULL, table_name text NOT NULL, operation text NOT NULL, role text DEFAULT session_user,
  application_name text DEFAULT nullif(current_setting('application_name'), ''), client_addr text DEFAULT inet_client_addr()::text,
  query text, key jsonb, old jsonb, new jsonb, plan_id text
) PARTITION BY RANGE (statement_at);
CREATE TABLE audit_log_all PARTITION OF audit_log DEFAULT;
CREATE INDEX ON audit_log (table_schema, table_name, statement_at);

CREATE FUNCTION audit_key(row_ jsonb, columns text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE
  AS 'SELECT jsonb_object_agg(c, row_ -> c) FROM unnest(columns) c';

-- TG_ARGV: how updates are kept (all or changed), then the columns of the key. `audit.now` sets the clock of a test.
CREATE FUNCTION audit_statement() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  moment timestamptz := coalesce(nullif(current_setting('audit.now', true), '')::timestamptz, statement_timestamp());
  columns text[] := TG_ARGV[1:];
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, new)
      SELECT moment, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, audit_key(to_jsonb(the_row), columns), to_jsonb(the_row) FROM new_rows the_row;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, old)
      SELECT moment, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, audit_key(to_jsonb(the_row), columns), to_jsonb(the_row) FROM old_rows the_row;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, old, new)
      SELECT moment, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, audit_key(o, columns),
             CASE TG_ARGV[0] WHEN 'all' THEN o ELSE (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(o) e WHERE n -> e.key IS DISTINCT FROM e.value) END,
             CASE TG_ARGV[0] WHEN 'all' THEN n ELSE (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(n) e WHERE o -> e.key IS DISTINCT FROM e.value) END
      FROM (SELECT row_number() OVER () AS place, to_jsonb(the_row) AS o FROM old_rows the_row) a
      JOIN (SELECT row_number() OVER () AS place, to_jsonb(the_row) AS n FROM new_rows the_row) b USING (place);
  ELSE
    INSERT INTO audit_log (statement_at, table_schema, table_name, operation) VALUES (moment, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP);
  END IF;
  RETURN NULL;
END $$;

CREATE PROCEDURE audit_table(t regclass, how text, key text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER audit_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit_statement(%L, %s)', t, how, key);
  EXECUTE format('CREATE TRIGGER audit_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION audit_statement(%L, %s)', t, how, key);
  EXECUTE format('CREATE TRIGGER audit_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit_statement(%L, %s)', t, how, key);
  EXECUTE format('CREATE TRIGGER audit_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit_statement(%L, %s)', t, how, key);
END $$;
