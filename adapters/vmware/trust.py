"""Which server is believed to be the one that was named: by a root certificate, or by its own certificate's digest.

pyvmomi asks nobody where the name is localhost and no context is given (pyVim.connect, getSslContext, 9.1): one is always given.
"""

import hashlib
import re
import ssl
from pathlib import Path

from migrate.errors import SourceBusy, SourceError, UsageError
from migrate.text import one_line

CONNECT_S = 20.0
DIGESTS = {64: "sha256", 40: "sha1"}


def context(host: str, port: int, ca: Path | None = None, thumbprint: str | None = None) -> ssl.SSLContext:
    """Return how connections to this server are verified. With a thumbprint the server is asked for its certificate at once.

    Then this very certificate is trusted, whatever name it bears and whoever signed it, and no other; it must not have expired. Raise
    SourceError where it is another, UsageError for a file or a digest that is none.
    """
    if thumbprint is not None:
        return _pinned(host, port, digits(thumbprint))
    trusting = ssl.create_default_context()
    if ca is not None:
        try:
            trusting.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--ca {one_line(str(ca))}: no certificate can be read in it") from error
    return trusting


def digits(thumbprint: str) -> str:
    """Return a thumbprint in lower case without colons. Raise UsageError where it is neither a SHA-256 nor a SHA-1."""
    plain = thumbprint.replace(":", "").replace(" ", "").lower()
    if len(plain) not in DIGESTS or not re.fullmatch("[0-9a-f]+", plain):
        raise UsageError(
            f"{one_line(thumbprint)} is no thumbprint: 64 hexadecimal digits of SHA-256 were wanted, or 40 of SHA-1",
            hint="On the ESXi: openssl x509 -in /etc/vmware/ssl/rui.crt -fingerprint -sha256 -noout",
        )
    return plain


def certificate(host: str, port: int) -> bytes:
    """Return the certificate that a server shows, in DER, believed by nobody yet. Nothing is sent to it. Raise SourceBusy."""
    try:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, port), timeout=CONNECT_S))
    except (OSError, ValueError) as error:
        raise SourceBusy(f"{one_line(host)}:{port} shows no certificate: {one_line(str(error))}") from error


def sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _pinned(host: str, port: int, wanted: str) -> ssl.SSLContext:
    der = certificate(host, port)
    found = hashlib.new(DIGESTS[len(wanted)], der, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise SourceError(
            f"{one_line(host)}:{port} shows another certificate than was said: {found}, and {wanted} was wanted",
            hint="Ask whoever runs it whether its certificate was renewed. Nothing was sent.",
        )
    # The certificate itself is the anchor (X509_V_FLAG_PARTIAL_CHAIN): who shows another one later in this run is refused by OpenSSL.
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=der)
    return trusting
