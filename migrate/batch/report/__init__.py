"""What became of a batch, in the forms that people and programs read: one page, JSON, CSV, JUnit XML. All of the same facts."""

from migrate.batch.report.junit import junit
from migrate.batch.report.page import html
from migrate.batch.report.table import csv
from migrate.batch.report.values import to_json

__all__ = ["csv", "html", "junit", "to_json"]
