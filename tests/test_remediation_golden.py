"""A golden image: what goes, what stays, and what a machine that moves keeps."""

import pytest

from migrate.effects import Removal
from migrate.guests.memory import from_yaml
from migrate.remediate import preview
from migrate.remediation import Profile, Settings
from migrate.run import Run
from remediations import BUILTIN
from remediations.golden import CLEANINGS, GOLDEN, Cleaning, forget_hostname, forget_initiator_name, without_own_line
from tests.remediation_guests import applied, codes, done, guest, outcome

LIVED_IN = "debian12-vmware-lived-in"
JOINED = "rocky9-vmware-joined"
TEMPLATE = Settings(profile=Profile.GOLDEN_IMAGE)


def removed(name: str, *cleanings: str) -> list[str]:
    chosen = [each.remediation for each in CLEANINGS if each.name in cleanings]
    assert len(chosen) == len(cleanings)
    return sorted(effect.path for effect in done(guest(name), *chosen).effects if isinstance(effect, Removal))


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        (
            "forget-histories",
            [
                "/home/ana/.local/share/fish/fish_history",
                "/home/ana/.viminfo",
                "/home/ana/.zsh_history",
                "/root/.bash_history",
                "/var/lib/postgresql/.psql_history",
            ],
        ),
        (
            "forget-users-ssh-keys",
            ["/home/ana/.ssh/id_ed25519", "/home/ana/.ssh/id_ed25519.pub", "/home/ana/.ssh/known_hosts"],
        ),
        ("forget-crash-data", ["/var/crash/_usr_bin_vim.1000.crash", "/var/lib/systemd/coredump/core.nginx.zst"]),
        (
            "empty-package-caches",
            [
                "/var/cache/apt/archives/vim_9_amd64.deb",
                "/var/cache/apt/pkgcache.bin",
                "/var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease",
            ],
        ),
        ("empty-temporary-folders", ["/tmp/.X11-unix", "/tmp/upload.csv", "/var/tmp/.hidden"]),
        ("forget-mail", ["/var/mail/ana", "/var/spool/postfix/deferred/A/A1"]),
        ("forget-jobs", ["/var/spool/cron/atjobs/a0000101", "/var/spool/cron/crontabs/ana"]),
        ("forget-logins", ["/var/lib/fail2ban/fail2ban.sqlite3", "/var/log/wtmp"]),
        ("forget-installation", ["/etc/passwd-", "/etc/shadow-"]),
        ("forget-memberships", []),
    ],
)
def test_of_a_server_that_was_lived_in_this_goes(name: str, gone: list[str]) -> None:
    assert removed(LIVED_IN, name) == gone


def test_memberships_go_and_configurations_stay() -> None:
    assert removed(JOINED, "forget-memberships") == [
        "/etc/krb5.keytab",
        "/etc/nvme/hostnqn",
        "/etc/pki/consumer/cert.pem",
        "/etc/pki/consumer/key.pem",
        "/etc/puppetlabs/puppet/ssl",
        "/var/lib/sss/db/cache_example.org.ldb",
    ]
    assert removed(JOINED, "forget-jobs", "forget-logins", "forget-installation", "empty-package-caches") == [
        "/root/anaconda-ks.cfg",
        "/var/cache/dnf/appstream-1/packages/x.rpm",
        "/var/lib/faillock/ana",
        "/var/spool/cron/root",
    ]


def test_every_log_goes_with_the_journals_and_folders_stay(run: Run) -> None:
    after = applied(run, guest(LIVED_IN), next(each for each in GOLDEN if each.name == "empty-logs"), settings=TEMPLATE)
    assert [path for path in after.tree if path.startswith("/var/log/")] == [
        "/var/log/audit",
        "/var/log/journal",
        "/var/log/journal/remote",
        "/var/log/postgresql",
    ]


def test_the_name_goes_from_where_it_is_the_machines_own() -> None:
    changes = done(guest(LIVED_IN), forget_hostname)
    assert outcome(changes) == {"/etc/hostname": None, "/etc/hosts": "127.0.0.1 localhost\n192.168.10.5 db01 db\n"}
    assert [fact.text for fact in changes.facts] == ["erp01.example.org"]
    assert codes(done(guest(JOINED), forget_hostname)) == ["ID-003"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1\tlocalhost web1 # here\n", "127.0.0.1 localhost\n"),
        ("::1 web1\n", ""),
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n"),
        ("10.0.0.1 web1.example.org web1\n", "10.0.0.1 web1.example.org web1\n"),
        ("# 127.0.1.1 web1\n", "# 127.0.1.1 web1\n"),
        ("127.0.0.1 localhost", "127.0.0.1 localhost"),
    ],
)
def test_a_line_of_hosts(before: str, after: str) -> None:
    assert without_own_line(before, "web1.example.org") == after


def test_an_initiator_name_is_made_anew_as_each_family_does_it() -> None:
    path = "/etc/iscsi/initiatorname.iscsi"
    assert outcome(done(guest(LIVED_IN), forget_initiator_name)) == {path: "GenerateName=yes\n"}
    assert outcome(done(guest(JOINED), forget_initiator_name)) == {path: None}


@pytest.mark.parametrize("name", [LIVED_IN, JOINED])
def test_a_machine_that_moves_keeps_its_name_logs_and_memberships_and_is_told_of_them(run: Run, name: str) -> None:
    named = {each.name for each in GOLDEN}
    changes = preview(run, guest(name), BUILTIN, Settings())
    assert [effect for effect in changes.effects if effect.by in named] == []
    (told,) = [finding for finding in changes.findings if finding.by in named]
    assert (told.code, "/etc/iscsi/initiatorname.iscsi" in told.text) == ("ID-002", True)


def test_a_template_has_no_trace_of_people_and_names_the_credentials_that_are_left(run: Run) -> None:
    changes = preview(run, guest(LIVED_IN), BUILTIN, TEMPLATE)
    (told,) = [finding for finding in changes.findings if finding.code == "ID-004"]
    assert "/home/ana/.aws/credentials, /etc/ssl/private/erp01.key" in told.text
    assert "ID-002" not in codes(changes)


def test_one_cleaning_can_be_asked_for_by_name(run: Run) -> None:
    changes = preview(run, guest(LIVED_IN), BUILTIN, Settings(ask=frozenset({"forget-mail"})))
    assert [effect.by for effect in changes.effects if effect.by.startswith(("forget-mail", "forget-jobs"))] == [
        "forget-mail",
        "forget-mail",
    ]


@pytest.mark.parametrize("cleaning", CLEANINGS, ids=lambda cleaning: cleaning.name)
def test_paths_are_absolute_and_reasons_complete_because_it(cleaning: Cleaning) -> None:
    for group in cleaning.groups:
        assert all(path.startswith("/") for path in (*group.paths, *group.files, *group.below))
        assert not any(path.startswith("/") for path in group.homes)
        assert group.why.split()[0].endswith("s") or group.why.startswith("was ") or group.why.startswith("would ")


def test_a_folder_of_logs_that_leads_in_a_circle_is_passed_by() -> None:
    circled = from_yaml("files: {/var/mail: {link: ../mail}, /mail: {link: var/mail}}")
    assert done(circled, *GOLDEN).effects == ()
