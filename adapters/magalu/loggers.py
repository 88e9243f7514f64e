"""The loggers of the libraries below us, which would write down signatures and pre-signed URLs.

httpx logs every URL at INFO, query and all; botocore logs the text that it signs, and the signature, at DEBUG.
"""

import logging

TALKATIVE = ("httpx", "httpcore", "boto3", "botocore", "urllib3")


def silence() -> None:
    """Afterwards none of these libraries logs below WARNING, whatever level the program sets for itself."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
