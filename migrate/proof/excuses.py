"""What may fail in a proof without speaking against the image, each with its reason."""

import fnmatch
import re

from migrate.proof.facts import CloudInit

# Units that fail in the proof and not in the cloud: what they want is not in this sandbox, on purpose.
BY_DESIGN = {
    "apt-daily*.service": "there are no package repositories here",
    "dnf-makecache.service": "there are no package repositories here",
    "fwupd-refresh.service": "there is no Internet here",
    "motd-news.service": "there is no Internet here",
    "pollinate.service": "there is no Internet here",
    "snapd.seeded.service": "there is no Internet here",
    "ua-auto-attach.service": "there is no Internet here",
    "ubuntu-advantage.service": "there is no Internet here",
    "chrony-wait.service": "there is no time server here",
    "systemd-time-wait-sync.service": "there is no time server here",
    "ntpdate.service": "there is no time server here",
    "kdump*.service": "this machine's memory is too small for a crash kernel",
    "mcelog.service": "it refuses emulated processors",
}
# cloud-init's modules whose error costs the guest nothing here, or shows in a claim of its own. A stage's unit fails with its modules.
MODULES = {
    "locale": "the locale that cloud-init wants is not generated in this guest",
    "keyboard": "the guest keeps its own keyboard layout",
    "ntp": "there is no time server here",
    "ubuntu-advantage": "there is no Internet here",
    "ubuntu_advantage": "there is no Internet here",
    "ubuntu-pro": "there is no Internet here",
    "snap": "there is no Internet here",
    "landscape": "there is no Internet here",
    "phone-home": "there is no Internet here",
    "apt-configure": "there are no package repositories here",
    "package-update-upgrade-install": "there are no package repositories here",
    "growpart": 'the claim "root-grew" shows it',
    "resizefs": 'the claim "root-grew" shows it',
    "ssh": 'the claims "host-keys" and "login" show it',
    "users-groups": 'the claim "login" shows it',
}
MODULE_ERROR = re.compile(r"^\('(?P<module>[\w-]+)', ")
CLOUD_INIT_UNITS = ("cloud-init-local.service", "cloud-init*.service", "cloud-config.service", "cloud-final.service")


def excuse(unit: str, cloud_init: CloudInit) -> str | None:
    """Return why a unit may fail in a proof, None where it may not."""
    if any(fnmatch.fnmatchcase(unit, pattern) for pattern in CLOUD_INIT_UNITS):
        modules = [found["module"] if (found := MODULE_ERROR.match(error)) else "" for error in cloud_init.errors]
        known = [MODULES.get(module) for module in modules]
        return known[0] if cloud_init.done and known and all(known) else None
    return next((why for pattern, why in BY_DESIGN.items() if fnmatch.fnmatchcase(unit, pattern)), None)
