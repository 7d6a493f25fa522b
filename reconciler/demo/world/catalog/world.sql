-- A photo catalogue with an audit log, and its jobs.
CREATE TABLE images (id int PRIMARY KEY, path text NOT NULL, thumbnail_path text);
CREATE TABLE jobs (id int PRIMARY KEY, job_type text NOT NULL, status text NOT NULL);
CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name text NOT NULL, operation text NOT NULL, old_data jsonb,
  db_user text NOT NULL, application_name text, changed_at timestamptz NOT NULL
);
INSERT INTO images SELECT n, 'photos/' || n || '.raw', NULL FROM generate_series(1001, 1048) n;
INSERT INTO jobs VALUES (4, 'analyze', 'SUCCESS');
