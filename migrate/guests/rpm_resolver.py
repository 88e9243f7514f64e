"""What the host's dnf makes of an RPM guest's packages and repositories: run inside the sandbox by Debian's python3, imported by nobody.

It reads request.json in its folder and writes what it found to standard output, both as migrate.guests.rpm has them. The folder holds
a copy of the guest's package database as root/var/lib/rpm; everything that dnf writes stays below it.
Source: dnf's Python API, dnf.readthedocs.io/en/latest/api.html.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dnf
import dnf.exceptions
import dnf.rpm
import dnf.transaction
import hawkey

TIMEOUT_S = 30
ARRIVES = frozenset(
    {
        dnf.transaction.PKG_INSTALL,
        dnf.transaction.PKG_UPGRADE,
        dnf.transaction.PKG_DOWNGRADE,
        dnf.transaction.PKG_REINSTALL,
    }
)
LEAVES = frozenset({dnf.transaction.PKG_ERASE, dnf.transaction.PKG_OBSOLETED})


class Refused(Exception):
    """It cannot be done, and the text says why."""


def main() -> None:
    here = Path(sys.argv[1])
    request = json.loads((here / "request.json").read_text())
    os.environ.update(request["proxies"])
    answer: dict[str, Any] = {"install": [], "remove": [], "files": {}, "trouble": [], "error": ""}
    try:
        with dnf.Base(_configuration(here, request)) as base:
            _listen(answer["trouble"])
            repositories = _repositories(base, here, request) if request["repositories"] or request["offered"] else 0
            base.fill_sack(load_system_repo=request["database"], load_available_repos=bool(repositories))
            offered = base.add_remote_rpms([str(here / name) for name in request["offered"]]) if repositories else []
            if request["fetch"]:
                answer["files"] = _fetched(base, here, request["fetch"])
            else:
                answer |= _planned(base, request, offered)
    except Refused as refused:
        answer["error"] = str(refused)
    except dnf.exceptions.Error as error:
        answer["error"] = str(error)
    json.dump(answer, sys.stdout)


def _configuration(here: Path, request: Mapping[str, Any]) -> dnf.conf.Conf:
    conf = dnf.conf.Conf()
    conf.installroot = str(here / "root")
    conf.cachedir = str(here / "cache")
    conf.persistdir = str(here / "persist")
    conf.logdir = "/tmp"  # noqa: S108  (the sandbox's own)
    conf.reposdir = []
    conf.varsdir = []
    conf.pluginpath = []
    conf.plugins = False
    conf.protected_packages = []  # the caller has a list of its own
    conf.protect_running_kernel = False  # the kernel that runs is the host's
    conf.clean_requirements_on_remove = False
    conf.install_weak_deps = False
    conf.best = False
    conf.keepcache = True  # what was fetched is used after dnf has ended
    conf.deltarpm = False
    conf.assumeyes = True
    conf.timeout = TIMEOUT_S
    conf.retries = 2
    conf.metadata_expire = request["fresh_s"]
    conf.excludepkgs = request["exclude"]
    conf.sslverify = True
    if request["platform"]:
        conf.module_platform_id = request["platform"]
    values = conf.substitutions
    values["arch"] = values["basearch"] = request["arch"]
    release = (request["database"] and dnf.rpm.detect_releasever(conf.installroot)) or request["release"]
    values["releasever"] = release
    values["releasever_major"], _, values["releasever_minor"] = release.partition(".")
    for name, value in request["variables"].items():
        values[name] = value
    return conf


def _repositories(base: dnf.Base, here: Path, request: Mapping[str, Any]) -> int:
    """Add the guest's repositories; return how many are asked. What is not http or https after substitution is left out."""
    for wanted in request["repositories"]:
        values = base.conf.substitutions
        places = {
            name: [_substituted(place, values) for place in wanted[name]]
            for name in ("baseurl", "mirrorlist", "metalink")
        }
        places = {name: [place for place in found if _asked(place)] for name, found in places.items()}
        if not any(places.values()):
            continue
        repo = dnf.repo.Repo(wanted["id"], base.conf)
        repo.baseurl = places["baseurl"]
        for name in ("mirrorlist", "metalink"):
            if places[name]:
                setattr(repo, name, places[name][0])
        repo.gpgcheck = wanted["gpgcheck"]
        repo.repo_gpgcheck = wanted["repo_gpgcheck"]
        repo.gpgkey = [f"file://{here / key}" for key in wanted["keys"]]
        repo.excludepkgs = wanted["exclude"]
        repo.includepkgs = wanted["include"]
        repo.module_hotfixes = wanted["module_hotfixes"]
        repo.priority = wanted["priority"]
        for name in ("username", "password"):
            if wanted[name]:
                setattr(repo, name, wanted[name])
        repo.skip_if_unavailable = True
        base.repos.add(repo)
    return len(base.repos) + len(request["offered"])


def _substituted(text: str, values: Mapping[str, str]) -> str:
    """$name and ${name}; what has no value stays. Source: dnf.conf(5), "VARIABLES"."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), text)


def _asked(place: str) -> bool:
    return place.startswith(("http://", "https://")) and place.isprintable() and " " not in place


def _planned(base: dnf.Base, request: Mapping[str, Any], offered: Sequence[Any]) -> dict[str, Any]:
    """What was drafted before is done again with it, and left out of the answer: the database knows nothing of that yet."""
    installed = base.sack.query().installed()
    for nevra in (*request["gone"], *request["remove"]):
        for package in installed.filter(nevra_strict=nevra):
            base.package_remove(package)
    for nevra in request["added"]:
        for package in base.sack.query().available().filter(nevra_strict=nevra).latest(1):
            base.package_install(package)
    for name in request["install"]:
        _mark(base, name)
    base.resolve(allow_erasing=bool(request["remove"]))
    arriving = {_nevra(item.pkg): item.pkg for item in base.transaction or () if item.action in ARRIVES}
    leaving = {_nevra(item.pkg): item.pkg for item in base.transaction or () if item.action in LEAVES}
    files = {_nevra(package): f"offered/{Path(package.location).name}" for package in offered}
    return {
        "install": [
            _described(package) | ({"repository": files[nevra]} if package.reponame == hawkey.CMDLINE_REPO_NAME else {})
            for nevra, package in sorted(arriving.items())
            if nevra not in request["added"]
        ],
        "remove": [_described(package) for nevra, package in sorted(leaving.items()) if nevra not in request["gone"]],
    }


def _mark(base: dnf.Base, name: str) -> None:
    if base.sack.query().available().filter(name=name):
        base.install(name)
        return
    hidden = base.sack.query(flags=hawkey.IGNORE_MODULAR_EXCLUDES).available().filter(name=name)
    if streams := sorted(set(_streams(base, hidden))):
        raise Refused(f"{name} is only in the module {' or '.join(streams)}, which is not enabled in the guest")
    if base.sack.query(flags=hawkey.IGNORE_EXCLUDES).available().filter(name=name):
        raise Refused(f"{name} is in the repositories, and the guest's own settings exclude it")
    newer = "newer " if base.sack.query().installed().filter(name=name) else ""
    raise Refused(f"the repositories have no {newer}{name}")


def _streams(base: dnf.Base, hidden: Any) -> Iterator[str]:
    wanted = {_nevra(package) for package in hidden}
    for module in base._moduleContainer.getModulePackages():
        if wanted & {artifact.replace("-0:", "-") for artifact in module.getArtifacts()}:
            yield f"{module.getName()}:{module.getStream()}"


def _fetched(base: dnf.Base, here: Path, wanted: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Download what is not there yet; the checksums of the metadata are looked at by librepo."""
    packages = []
    for each in wanted:
        found = base.sack.query().available().filter(nevra_strict=each["nevra"], reponame=each["repository"])
        if not found:
            raise Refused(f"{each['nevra']} is no longer in the repository {each['repository']}")
        packages.append(found[0])
    base.download_packages(packages)
    return {_nevra(package): str(Path(package.localPkg()).relative_to(here)) for package in packages}


def _described(package: Any) -> dict[str, Any]:
    return {
        "nevra": _nevra(package),
        "name": package.name,
        "version": package.evr.removeprefix("0:"),
        "arch": package.arch,
        "repository": package.reponame,
        "size": package.downloadsize,
        "takes": package.installsize,
        "obsoletes": [str(each) for each in package.obsoletes],
    }


def _nevra(package: Any) -> str:
    return f"{package.name}-{package.evr.removeprefix('0:')}.{package.arch}"


def _listen(trouble: list[str]) -> None:
    """dnf tells which repositories do not answer in its log only."""

    class Trouble(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trouble.append(record.getMessage())

    logger = logging.getLogger("dnf")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.handlers = [Trouble(logging.WARNING)]


if __name__ == "__main__":
    main()
