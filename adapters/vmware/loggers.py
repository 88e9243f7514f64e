"""The loggers of the libraries below us, which would write down addresses of leases: whoever knows one may read the disk."""

import logging

TALKATIVE = ("httpx", "httpcore", "pyVmomi", "pyVim", "oslo_utils.imageutils.format_inspector")


def silence() -> None:
    """Afterwards none of these libraries logs below WARNING, whatever level the program sets for itself."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
