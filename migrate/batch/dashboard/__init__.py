"""A page for those who watch a batch: the report's own parts, read from the database, on this machine only."""

from migrate.batch.dashboard.server import serve

__all__ = ["serve"]
