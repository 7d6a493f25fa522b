-- Devices and the images they sent: each name several times, by restarts, firmware bugs and races.
CREATE TABLE devices (device_id uuid PRIMARY KEY, device_code text UNIQUE);
CREATE TABLE device_images (
  image_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id uuid NOT NULL REFERENCES devices,
  image_name text NOT NULL,
  status text,
  total_chunks int,
  received_chunks int,
  captured_at timestamptz,
  updated_at timestamptz
);
CREATE TABLE captures (id int PRIMARY KEY, image_id int REFERENCES device_images ON DELETE SET NULL, note text);
CREATE INDEX ON captures (image_id);
CREATE TABLE image_tags (image_id int REFERENCES device_images ON DELETE CASCADE, tag text, PRIMARY KEY (image_id, tag));
INSERT INTO devices VALUES ('57b7f85e-354f-4a51-a8f8-5aecff515768', 'MOTH-1');
INSERT INTO device_images (device_id, image_name, status, total_chunks, received_chunks, captured_at, updated_at)
SELECT '57b7f85e-354f-4a51-a8f8-5aecff515768', 'image_' || 10561 + i % 13 || '.jpg', (ARRAY['failed', 'pending', 'complete', 'receiving', NULL])[1 + i % 5],
  40, nullif(i % 7, 0) * 5, '2025-11-01'::timestamptz + i % 13 * interval '1 hour', '2025-11-02'::timestamptz + i / 26 * interval '1 day'
FROM generate_series(1, 78) i;
INSERT INTO captures SELECT i, i, 'seen' FROM generate_series(1, 40) i;
INSERT INTO image_tags SELECT i, 'moth' FROM generate_series(1, 30) i;
