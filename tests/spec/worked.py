"""Right specs that several tests share."""

from __future__ import annotations

RESTORE = """\
# yaml-language-server: $schema=reconciler.schema.json
version: 1

variables:
  did: { description: whose records, default: "did:plc:abc" }
  limit: { default: 5 }

connections:
  production: { postgres: "${env:DATABASE_URL}" }
  backup: { postgres: "${env:BACKUP_URL:-embedded}" }
  extract: { files: backup-data, tables: { documents_in_publications: documentsInPublications } }
  local: { postgres: embedded }

collections:
  publications:
    table: production.publications           # a comment
    source: backup
    where: starts_with(uri, 'at://' || :did || '/site.standard.publication/')
    key: [uri]
    columns: { except: [search_vector] }
    sensitive: [email]
    compare: exact
    on_changed: { newer: indexed_at }
    on_extra: delete
    on_missing_parent: { doc: null, x: "null", y: skip }
    triggers: off
    max_delete: "${limit}"
  everything_of_the_user:
    into: production
    source: extract
    roots:
      publications: starts_with(uri, 'at://' || :did || '/site.standard.publication/')
      documents: |
        starts_with(uri,
          'at://' || :did || '/site.standard.document/')
      app."Order": true
    follow: dependents
    on_extra: keep
    compare: exact
    tables:
      comments_on_documents: { on_missing_parent: null, key: [uri], columns: [uri, body], max_delete: 5% }
      app.tags: { triggers: off }
    needs: [collections.publications]
    description: "all of ${did}, $${literally}"
  inline:
    table: local.public."Prices"
    source: { rows: [ { id: 1, price: 1.10, at: 2024-01-01, data: { b: 1e400, a: [true, null, 0123] } } ] }
    key: [id]
    protect: true
    on_missing_parent: null
"""
