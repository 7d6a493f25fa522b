-- The deletions that came in with the firehose, and what the cascades made of them. A commenter left since.
DELETE FROM publications WHERE uri LIKE 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.publication/%';
DELETE FROM documents WHERE uri LIKE 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/%';
DELETE FROM bsky_profiles WHERE handle = 'reader7.example.com';
