"""Magalu Cloud as the target of a migration: object storage and custom images."""

from adapters.magalu.credentials import Credentials, Given, find_credentials
from adapters.magalu.regions import API_URL_ENV, S3_URL_ENV, Region, region
from adapters.magalu.target import MagaluTarget, Settings, magalu_target
from migrate.ledger import Ledger

__all__ = [
    "API_URL_ENV",
    "S3_URL_ENV",
    "Credentials",
    "Given",
    "Ledger",
    "MagaluTarget",
    "Region",
    "Settings",
    "find_credentials",
    "magalu_target",
    "region",
]
