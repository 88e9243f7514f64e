"""The regions of Magalu Cloud."""

import os

from adapters.magalu import API_URL_ENV, S3_URL_ENV, region


def check_region(name: str) -> None:
    """The region is one of Magalu Cloud's, or the environment says where it is. Raise UsageError otherwise."""
    region(name, api_url=os.environ.get(API_URL_ENV), s3_url=os.environ.get(S3_URL_ENV))
