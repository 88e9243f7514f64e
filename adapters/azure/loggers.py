"""The loggers of the libraries below us, which would write down signatures: urllib3 logs whole URLs at DEBUG, azure-core headers at INFO."""

import logging

TALKATIVE = ("azure", "msal", "urllib3", "requests")


def silence() -> None:
    """Afterwards none of these libraries logs below ERROR, whatever level the program sets for itself.

    ERROR, not WARNING: azure-core warns with the URL of what broke off, azure-identity of each way to sign in that does not apply.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
