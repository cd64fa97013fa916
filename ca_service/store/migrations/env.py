"""What Alembic runs: the revisions, on the connection that Database.migrate has opened and locked."""

from alembic import context

from ca_service.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
