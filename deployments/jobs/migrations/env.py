"""Alembic's entry point, which migrates over the connection that `upgrade` opened."""

from alembic import context

from deployments.jobs.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
