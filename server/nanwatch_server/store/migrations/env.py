"""Runs the migrations on the connection that `store.sql` hands over."""

from alembic import context

from nanwatch_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
)
context.run_migrations()
