-- One statement deleted all images of before, none of which had a thumbnail; later the jobs that had made others were cleaned up.
INSERT INTO audit_log (table_name, operation, old_data, db_user, changed_at)
SELECT 'images', 'DELETE', jsonb_build_object('id', n, 'path', 'photos/' || n || '.raw', 'thumbnail_path', NULL), 'pg', '2025-12-10 04:24:16.940823+00'
FROM generate_series(1, 111) n;
INSERT INTO audit_log (table_name, operation, old_data, db_user, changed_at)
SELECT 'jobs', 'DELETE', jsonb_build_object('id', n, 'job_type', 'generate_thumbnails', 'status', 'SUCCESS'), 'app', '2025-12-23 17:11:00+00'::timestamptz + n * interval '1 s'
FROM generate_series(1, 3) n;
