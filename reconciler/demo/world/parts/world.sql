-- Pictures of parts: a row with a signed URL for each picture in the bucket part-images.
CREATE TABLE part_images (file_name text PRIMARY KEY, size_bytes bigint, signed_url text);
INSERT INTO part_images (file_name) SELECT 'part-' || lpad(n::text, 4, '0') || '.jpg' FROM generate_series(1, 240) n;
