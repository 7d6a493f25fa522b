-- A CMS: one row for each picture in the bucket cms-images.
CREATE TABLE images (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), collection_id uuid NOT NULL, src text NOT NULL UNIQUE, title text, mime text,
  palette text, metadata_status text NOT NULL
);
INSERT INTO images (id, collection_id, src, title, mime, palette, metadata_status)
SELECT md5(n::text)::uuid, '00000000-0000-0000-0000-000000000001', 'cms-images/garden/' || lpad(n::text, 3, '0') || '.jpg', 'Garden ' || n, 'image/jpeg', 'green', 'ready'
FROM generate_series(1, 60) n;
INSERT INTO images (id, collection_id, src, title, mime, palette, metadata_status)
SELECT md5('other' || n)::uuid, '00000000-0000-0000-0000-000000000002', 'cms-images/other/' || n || '.jpg', 'Other ' || n, 'image/jpeg', 'grey', 'ready'
FROM generate_series(1, 5) n;
