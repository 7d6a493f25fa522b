CREATE TABLE duplicate_image_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id uuid NOT NULL,
  image_name text NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION is_image_complete(device uuid, name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM device_images WHERE device_id = device AND image_name = name AND status = 'complete')
$$;

-- The row to go on with: the one there is, or a new one; a second one cannot come to be.
CREATE FUNCTION resume_image(device uuid, name text, chunks int) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
  received int;
BEGIN
  INSERT INTO device_images (device_id, image_name, status, total_chunks, received_chunks, updated_at)
  VALUES (device, name, 'pending', chunks, 0, now())
  ON CONFLICT (device_id, image_name) DO UPDATE SET updated_at = now()
  RETURNING received_chunks INTO received;
  RETURN received;
END
$$;
