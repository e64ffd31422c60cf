"""How alembic runs the migrations: on the connection it is given, within its transaction."""

from alembic import context

from backgrid.jobs.store import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
