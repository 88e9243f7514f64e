"""An image file before it is booted: what it is said to be, and naming no other file."""

from pathlib import Path

from oslo_utils.imageutils import format_inspector

from migrate.errors import UsageError


def check_image(image: Path, image_format: str) -> None:
    """Raise UsageError where the file is not of the format ("qcow2", "raw"), or not safe to open.

    QEMU is told the format and never guesses; an image that names a backing file or a data file could show the guest any
    file of this host. Source: CVE-2024-32498, oslo.utils format_inspector.
    """
    if image_format not in ("qcow2", "raw"):
        raise UsageError(f"{image}: the proof boots qcow2 and raw images, not {image_format}.")
    try:
        found = format_inspector.detect_file_format(str(image))
        if image_format == "raw":
            if str(found) not in ("raw", "gpt"):
                raise UsageError(
                    f"{image} is said to be raw, and is {found or 'nothing known'}.",
                    hint="Give the format that it has.",
                )
            return
        if found is None or str(found) != "qcow2":
            raise UsageError(
                f"{image} is said to be qcow2, and is {found or 'nothing known'}.", hint="Give the format that it has."
            )
        found.safety_check()
    except OSError as error:
        raise UsageError(f"{image} cannot be read: {error.strerror}.") from error
    except format_inspector.SafetyCheckFailed as failed:
        reasons = ", ".join(sorted(failed.failures))
        raise UsageError(f"{image} is not a plain qcow2 (it fails: {reasons}) and is not opened.") from failed
    except format_inspector.ImageFormatError as error:
        raise UsageError(f"{image} is not a sound {image_format}: {error}.") from error
