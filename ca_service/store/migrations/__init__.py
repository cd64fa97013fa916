"""Alembic's revisions of the schema, run by Database.migrate; each stands alone and is never edited later."""
