"""The sandbox's importer: fetches the pre-signed URL as a simple program would, and looks at the file as a careful cloud does."""

import json
import logging
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from oslo_utils.imageutils import format_inspector

from adapters.sandbox.faults import Faults
from adapters.sandbox.shelf import Shelf, ShelvedImage
from migrate.errors import Stopped, ToolFailed
from migrate.run import Limits, Run
from migrate.secret import Secret
from migrate.text import size

LIMITS = Limits(address_space=2 << 30, cpu_seconds=600)
"""For qemu-img, which reads what somebody uploaded. A check of a 20 GB file takes some 100 MB."""

logging.getLogger("oslo_utils.imageutils.format_inspector").setLevel(
    logging.ERROR
)  # it warns of what we tell ourselves


class Importer:
    """Imports images, each on a thread of its own. `origin` is the only place that a URL may point to; `limit` in bytes."""

    def __init__(self, run: Run, shelf: Shelf, faults: Faults, *, origin: str, limit: int) -> None:
        self._run = run
        self._shelf = shelf
        self._faults = faults
        self._origin = origin
        self._limit = limit
        self._threads: list[threading.Thread] = []

    def accepts(self, url: str) -> bool:
        """Whether the URL points to this sandbox's own object storage: an importer that reads any address reads its owner's secrets."""
        try:
            found, own = urlsplit(url), urlsplit(self._origin)
            return (found.scheme, found.netloc) == (own.scheme, own.netloc)
        except ValueError:
            return False

    def begin(self, image: ShelvedImage, url: Secret) -> None:
        """The import goes on by itself; the image's status tells how it ended."""
        thread = threading.Thread(target=self._import, args=(image, url), name=f"import-{image.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Every import has ended; set the run's stop before, to end them early."""
        for thread in self._threads:
            thread.join()

    def _import(self, image: ShelvedImage, url: Secret) -> None:
        draft = self._shelf.file(image.id).with_suffix(".part")
        try:
            status, reason = self._ended(draft, url)
            if status == "active":
                draft.replace(self._shelf.file(image.id))
            self._shelf.change(image.id, status=status, reason=reason)
            if self._shelf.get(image.id) is None:  # deleted meanwhile
                self._shelf.file(image.id).unlink(missing_ok=True)
        except Stopped:
            pass  # the next sandbox in this folder finds it importing, and says importing_error
        finally:
            draft.unlink(missing_ok=True)

    def _ended(self, draft: Path, url: Secret) -> tuple[str, str | None]:
        """The final status, and why it is not active."""
        began = time.monotonic()
        status, reason = self._fetched(url, draft)
        if status == "active" and (reason := unsound(self._run, draft)):
            status = "invalid_image"
        while (rest := began + self._faults.import_s - time.monotonic()) > 0:
            self._run.stop.wait(rest)
            self._run.check()
        if self._faults.import_fails:
            return "importing_error", "asked for by the test"
        return status, reason

    def _fetched(self, url: Secret, draft: Path) -> tuple[str, str | None]:
        """Get the URL into the file; the final status so far, and why. A plain GET: no range, no redirect, no keys."""
        try:
            with (
                httpx.Client(timeout=30, trust_env=False) as http,
                http.stream("GET", url.reveal()) as response,
                draft.open("wb") as file,
            ):
                if response.status_code != 200:
                    return "importing_error", f"object storage answered {response.status_code}"
                done = 0
                for chunk in response.iter_raw():
                    self._run.check()
                    done += len(chunk)
                    if done > self._limit:
                        return "invalid_image", f"the file is larger than {size(self._limit)}"
                    file.write(chunk)
        except httpx.RequestError as error:
            return "importing_error", f"object storage broke off ({error.__class__.__name__})"
        return "active", None


def unsound(run: Run, path: Path) -> str | None:
    """Return why this file is not a qcow2 that the cloud would take; None where it is one.

    The header is judged before qemu-img sees the file, because a backing or data file named in it would be opened.
    """
    try:
        inspector = format_inspector.detect_file_format(str(path))
        if inspector is None or str(inspector) != "qcow2":
            return f"it is not a qcow2 file, but {inspector or 'of an unknown format'}"
        inspector.safety_check()
    except (format_inspector.ImageFormatError, format_inspector.SafetyCheckFailed) as error:
        return f"the qcow2 header is not safe: {error}"
    try:
        said = run.tool(["qemu-img", "info", "-f", "qcow2", "--output=json", path], limits=LIMITS, timeout=60)
        run.tool(["qemu-img", "check", "-q", "-f", "qcow2", path], limits=LIMITS, timeout=1200)
    except ToolFailed as error:
        return f"qemu-img does not take it: {error.message}"
    info = json.loads(said.stdout)
    details = info.get("format-specific", {}).get("data", {})
    if details.get("compat") != "1.1":
        return f"its compat is {details.get('compat')}, not 1.1"
    if info.get("encrypted") or "backing-filename" in info or "data-file" in details:
        return "it is encrypted, or names another file"
    if details.get("compression-type", "zlib") != "zlib":
        return f"it is compressed with {details['compression-type']}, not zlib"
    if details.get("corrupt"):
        return "it is marked as corrupt"
    return None
