"""The tables of Supabase Storage as its migrations leave them, as far as anybody outside can see."""

from __future__ import annotations

from typing import LiteralString

SCHEMA: LiteralString = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['anon', 'authenticated', 'service_role', 'supabase_storage_admin'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
    ALTER ROLE service_role BYPASSRLS;
END$$;

CREATE SCHEMA storage AUTHORIZATION supabase_storage_admin;
CREATE TYPE storage.buckettype AS ENUM ('STANDARD', 'ANALYTICS', 'VECTOR');
CREATE TABLE storage.buckets (
    id text PRIMARY KEY,
    name text NOT NULL,
    owner uuid,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    public boolean DEFAULT false,
    avif_autodetection boolean DEFAULT false,
    file_size_limit bigint,
    allowed_mime_types text[],
    owner_id text,
    type storage.buckettype NOT NULL DEFAULT 'STANDARD'
);
CREATE UNIQUE INDEX bname ON storage.buckets (name);
CREATE TABLE storage.objects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    bucket_id text,
    name text,
    owner uuid,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    last_accessed_at timestamptz DEFAULT now(),
    metadata jsonb,
    path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED,
    version text,
    owner_id text,
    user_metadata jsonb,
    CONSTRAINT "objects_bucketId_fkey" FOREIGN KEY (bucket_id) REFERENCES storage.buckets (id)
);
CREATE UNIQUE INDEX bucketid_objname ON storage.objects (bucket_id, name);
CREATE INDEX name_prefix_search ON storage.objects (name text_pattern_ops);
CREATE INDEX idx_objects_bucket_id_name ON storage.objects (bucket_id, name COLLATE "C");
CREATE INDEX idx_objects_bucket_id_name_lower ON storage.objects (bucket_id, lower(name) COLLATE "C");

CREATE FUNCTION storage.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END$$;
CREATE TRIGGER update_objects_updated_at BEFORE UPDATE ON storage.objects
    FOR EACH ROW EXECUTE FUNCTION storage.update_updated_at_column();

CREATE FUNCTION storage.protect_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('storage.can_delete', true), 'false') <> 'true' THEN
        RAISE EXCEPTION 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
            USING HINT = 'This prevents accidental data loss from orphaned objects.', ERRCODE = '42501';
    END IF;
    RETURN NULL;
END$$;
CREATE TRIGGER protect_buckets_delete BEFORE DELETE ON storage.buckets
    FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
CREATE TRIGGER protect_objects_delete BEFORE DELETE ON storage.objects
    FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();

ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.buckets OWNER TO supabase_storage_admin;
ALTER TABLE storage.objects OWNER TO supabase_storage_admin;
GRANT USAGE ON SCHEMA storage TO anon, authenticated, service_role;
GRANT ALL ON ALL TABLES IN SCHEMA storage TO anon, authenticated, service_role;
"""

LIST_V2: LiteralString = """
SELECT name, json_build_object('name', name, 'id', id, 'metadata', metadata,
         'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
         'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
         'last_accessed_at', to_char(last_accessed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text AS entry
  FROM storage.objects
 WHERE bucket_id = %(bucket)s AND starts_with(name, %(prefix)s) AND name COLLATE "C" >= %(prefix)s
   AND (%(after)s::text IS NULL OR name COLLATE "C" > %(after)s)
 ORDER BY name COLLATE "C" LIMIT %(limit)s
"""
LIST_V2_DOWN: LiteralString = """
SELECT name, json_build_object('name', name, 'id', id, 'metadata', metadata,
         'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
         'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
         'last_accessed_at', to_char(last_accessed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text AS entry
  FROM storage.objects
 WHERE bucket_id = %(bucket)s AND starts_with(name, %(prefix)s)
   AND (%(after)s::text IS NULL OR name COLLATE "C" < %(after)s)
 ORDER BY name COLLATE "C" DESC LIMIT %(limit)s
"""
# A prefix is a pattern that nobody escapes, letters' case does not count, and folders come without an id.
LIST_V1: LiteralString = """
SELECT * FROM (
    (SELECT path_tokens[%(level)s] AS name, NULL::text AS id, NULL::jsonb AS metadata, NULL::timestamptz AS updated_at,
            NULL::timestamptz AS created_at, NULL::timestamptz AS last_accessed_at
       FROM storage.objects
      WHERE bucket_id = %(bucket)s AND lower(name) LIKE lower(%(prefix)s) || '%%' AND cardinality(path_tokens) > %(level)s
      GROUP BY 1 ORDER BY 1)
    UNION ALL
    (SELECT path_tokens[%(level)s], id::text, metadata, updated_at, created_at, last_accessed_at FROM storage.objects
      WHERE bucket_id = %(bucket)s AND lower(name) LIKE lower(%(prefix)s) || '%%' AND cardinality(path_tokens) = %(level)s
      ORDER BY name)
) AS entries LIMIT %(limit)s OFFSET %(offset)s
"""
LIST_V1_DOWN: LiteralString = LIST_V1.replace("ORDER BY 1)", "ORDER BY 1 DESC)").replace(
    "ORDER BY name)", "ORDER BY name DESC)"
)
