-- A small publishing app: publications and documents, and what other users hang on them.
CREATE TABLE identities (did text PRIMARY KEY, email text UNIQUE);
CREATE TABLE bsky_profiles (did text PRIMARY KEY REFERENCES identities ON DELETE CASCADE, handle text);
CREATE TABLE bsky_posts (uri text PRIMARY KEY, cid text NOT NULL);
CREATE TABLE permission_tokens (id uuid PRIMARY KEY);
CREATE TABLE publications (
  uri text PRIMARY KEY, identity_did text NOT NULL REFERENCES identities ON DELETE CASCADE, name text NOT NULL,
  record jsonb NOT NULL, indexed_at timestamptz NOT NULL
);
CREATE TABLE documents (uri text PRIMARY KEY, data jsonb NOT NULL, indexed_at timestamptz NOT NULL, recommend_count int NOT NULL DEFAULT 0);
CREATE TABLE documents_in_publications (
  publication text REFERENCES publications ON DELETE CASCADE, document text REFERENCES documents ON DELETE CASCADE,
  indexed_at timestamptz NOT NULL, PRIMARY KEY (publication, document)
);
CREATE TABLE publication_subscriptions (
  publication text REFERENCES publications ON DELETE CASCADE, identity text REFERENCES identities ON DELETE CASCADE,
  created_at timestamptz NOT NULL, uri text NOT NULL UNIQUE, PRIMARY KEY (publication, identity)
);
CREATE TABLE publication_domains (
  domain text PRIMARY KEY, publication text REFERENCES publications ON DELETE CASCADE, identity text NOT NULL REFERENCES identities
);
CREATE TABLE leaflets_in_publications (
  publication text REFERENCES publications ON DELETE CASCADE, leaflet uuid REFERENCES permission_tokens ON DELETE CASCADE,
  doc text REFERENCES documents ON DELETE SET NULL, title text NOT NULL, PRIMARY KEY (publication, leaflet)
);
CREATE TABLE leaflets_to_documents (
  leaflet uuid REFERENCES permission_tokens ON DELETE CASCADE, document text REFERENCES documents ON DELETE CASCADE,
  title text NOT NULL, PRIMARY KEY (leaflet, document)
);
CREATE TABLE recommends_on_documents (
  uri text PRIMARY KEY, document text NOT NULL REFERENCES documents ON DELETE CASCADE,
  recommender_did text NOT NULL REFERENCES identities ON DELETE CASCADE, UNIQUE (document, recommender_did)
);
CREATE TABLE comments_on_documents (
  uri text PRIMARY KEY, document text REFERENCES documents ON DELETE CASCADE, profile text REFERENCES bsky_profiles ON DELETE SET NULL,
  record jsonb NOT NULL, reply_to text REFERENCES comments_on_documents ON DELETE CASCADE
);
CREATE TABLE document_mentions_in_bsky (
  uri text REFERENCES bsky_posts, document text REFERENCES documents ON DELETE CASCADE, link text NOT NULL, PRIMARY KEY (uri, document)
);
CREATE FUNCTION count_recommends() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'INSERT' THEN
    UPDATE documents SET recommend_count = recommend_count + 1 WHERE uri = NEW.document; RETURN NEW;
  END IF;
  UPDATE documents SET recommend_count = recommend_count - 1 WHERE uri = OLD.document; RETURN OLD;
END $$;
CREATE TRIGGER count_recommends AFTER INSERT OR DELETE ON recommends_on_documents FOR EACH ROW EXECUTE FUNCTION count_recommends();

INSERT INTO identities VALUES ('did:plc:ewvi7nxzyoun6zhxrhs64oiz', 'author@example.com');
INSERT INTO identities SELECT 'did:plc:' || repeat('reader', 3) || lpad(translate(n::text, '0189', 'abcd'), 6, 'a'), 'reader' || n || '@example.com'
  FROM generate_series(1, 40) n;
INSERT INTO bsky_profiles SELECT did, split_part(email, '@', 1) || '.example.com' FROM identities;
INSERT INTO bsky_posts SELECT 'at://did:plc:readerreaderreaderaaaaab/app.bsky.feed.post/' || n, 'cid' || n FROM generate_series(1, 4) n;
INSERT INTO permission_tokens SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid FROM generate_series(1, 8) n;

-- The author's three publications with 24 documents, of the new kind; a publication of the old kind; another author's.
INSERT INTO publications
SELECT 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.publication/' || rkey, 'did:plc:ewvi7nxzyoun6zhxrhs64oiz', name,
  jsonb_build_object('$type', 'site.standard.publication', 'name', name, 'url', 'https://' || rkey || '.example.com'), '2026-01-01'
FROM (VALUES ('3lnotes', 'Field Notes'), ('3lmoths', 'Moths at Night'), ('3lletters', 'Letters')) p (rkey, name);
INSERT INTO publications VALUES
  ('at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/pub.leaflet.publication/3kold', 'did:plc:ewvi7nxzyoun6zhxrhs64oiz', 'Old Notes', '{}', '2025-01-01');
INSERT INTO publications SELECT 'at://' || did || '/site.standard.publication/3lother', did, 'Elsewhere', '{}', '2026-01-01'
  FROM identities WHERE email = 'reader1@example.com';
INSERT INTO documents
SELECT 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/3ldoc' || lpad(n::text, 2, '0'),
  jsonb_build_object('$type', 'site.standard.document', 'title', 'Note ' || n, 'publishedAt', '2026-01-' || lpad(n::text, 2, '0') || 'T08:00:00Z'),
  '2026-01-01'::timestamptz + n * interval '1 day'
FROM generate_series(1, 24) n;
INSERT INTO documents SELECT replace(uri, 'publication', 'document'), '{"title": "Elsewhere"}', indexed_at FROM publications WHERE name = 'Elsewhere';
INSERT INTO documents_in_publications
SELECT p.uri, d.uri, d.indexed_at FROM publications p JOIN documents d ON d.data ->> '$type' = 'site.standard.document'
  AND right(d.uri, 2)::int % 3 = CASE p.name WHEN 'Field Notes' THEN 0 WHEN 'Moths at Night' THEN 1 WHEN 'Letters' THEN 2 END;
INSERT INTO publication_subscriptions
SELECT p.uri, i.did, '2026-01-05', 'at://' || i.did || '/site.standard.graph.subscription/' || right(p.uri, 6)
FROM publications p JOIN identities i ON i.email LIKE 'reader%' WHERE p.uri LIKE '%ewvi7nxzyoun6zhxrhs64oiz/site.standard.%' AND right(i.email, 13) <> '5@example.com';
INSERT INTO publication_domains SELECT split_part(record ->> 'url', '//', 2), uri, identity_did FROM publications WHERE record ? 'url';
INSERT INTO leaflets_to_documents SELECT id, 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/3ldoc0' || right(id::text, 1), 'Draft'
  FROM permission_tokens WHERE id::text < '00000000-0000-0000-0000-000000000005';
INSERT INTO leaflets_in_publications
SELECT CASE WHEN id::text < '00000000-0000-0000-0000-000000000007' THEN 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.publication/3lnotes'
  ELSE 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/pub.leaflet.publication/3kold' END,
  id, 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/3ldoc0' || right(id::text, 1), 'Leaflet'
FROM permission_tokens WHERE id::text > '00000000-0000-0000-0000-000000000004';
INSERT INTO recommends_on_documents
SELECT 'at://' || i.did || '/pub.leaflet.interactions.recommend/' || right(d.uri, 2), d.uri, i.did
FROM documents d JOIN identities i ON i.email LIKE 'reader_@%' WHERE d.data ->> '$type' = 'site.standard.document';
INSERT INTO comments_on_documents
SELECT 'at://' || i.did || '/pub.leaflet.comment/' || right(d.uri, 2), d.uri, i.did, '{"plaintext": "well said"}', NULL
FROM documents d JOIN identities i ON i.email = 'reader' || right(d.uri, 2)::int || '@example.com' WHERE d.data ->> '$type' = 'site.standard.document';
INSERT INTO comments_on_documents
SELECT replace(uri, 'comment/', 'comment/re'), document, profile, '{"plaintext": "thank you"}', uri FROM comments_on_documents ORDER BY uri LIMIT 9;
INSERT INTO document_mentions_in_bsky SELECT uri, 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/3ldoc0' || right(uri, 1), 'https://3lnotes.example.com/'
  FROM bsky_posts;
