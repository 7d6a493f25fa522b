-- Most rows of the default collection were wiped; a restore by hand brought some back, with stale metadata and wrong prefixes.
DELETE FROM images WHERE src BETWEEN 'cms-images/garden/021.jpg' AND 'cms-images/garden/048.jpg';
UPDATE images SET metadata_status = 'pending', palette = NULL WHERE src BETWEEN 'cms-images/garden/001.jpg' AND 'cms-images/garden/012.jpg';
UPDATE images SET src = replace(src, 'cms-images/', 'user-images/') WHERE src BETWEEN 'cms-images/garden/049.jpg' AND 'cms-images/garden/055.jpg';
