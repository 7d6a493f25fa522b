-- A script that saw only the first page of the bucket wrote rows for those; three rows name pictures that are gone.
DELETE FROM part_images WHERE image_path BETWEEN 'part-0020.jpg' AND 'part-0237.jpg';
