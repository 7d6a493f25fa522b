-- Pictures of parts: a row with a signed URL for each picture in the bucket part-images.
CREATE TABLE part_images (
  image_path text PRIMARY KEY, part_number text, file_type text, size_bytes bigint, signed_url text
);
INSERT INTO part_images (image_path, part_number, file_type)
SELECT 'part-' || lpad(n::text, 4, '0') || '.jpg', 'part-' || lpad(n::text, 4, '0'), 'jpg' FROM generate_series(1, 240) n;
