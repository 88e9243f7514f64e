"""Previews for the tests of what shows them: an ordinary one, one of hundreds of changes, and one of a guest that attacks its reader."""

from dataclasses import replace
from datetime import UTC, datetime

from migrate.effects import (
    Changes,
    Edit,
    Effect,
    Fact,
    Finding,
    LayoutEdit,
    PackageEdit,
    RebuildRequest,
    Removal,
    Severity,
)
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Folder,
    Kind,
    Link,
    MakeSwapFile,
    Os,
    Package,
    PackageChange,
    Rebuild,
)
from migrate.guests.memory import PLAIN_LAYOUT
from migrate.preview import Occasion, Preview
from migrate.preview.rehearsal import INSTALLED, Drift, Explained, Rehearsal
from migrate.remediation import Remediation
from migrate.source import Disk, Vm

OCCASION = Occasion("/srv/erp01.ova", datetime(2026, 11, 23, 7, 30, tzinfo=UTC), "0.1.0")
WHY = "belongs to the old cloud"


def step(name: str) -> Remediation:
    return Remediation(
        name, f"Do what {name} does", f"What {name} is about.", ("a manual page",), lambda draft, settings: None
    )


def preview(
    *effects: Effect, findings: tuple[Finding, ...] = (), facts: tuple[Fact, ...] = (), name: str = "erp01"
) -> Preview:
    changes = Changes(effects, findings, facts)
    vm = Vm(name, "VMware", (Disk("disk1", 10 << 30, "vmdk"),))
    os = Os("debian", (), "12", "bookworm", "Debian GNU/Linux 12 (bookworm)")
    return Preview(vm, os, PLAIN_LAYOUT, ("6.1.0-21-amd64",), "debian", changes, 1 << 30, OCCASION)


def ordinary() -> Preview:
    """One of everything."""
    old, new = Package("old-agent", "1.0"), Package("new-agent", "2.0")
    return preview(
        PackageEdit("packages", WHY, PackageChange((new,), (old,), "the guest's own repositories", 2048)),
        Edit("files", "names the old cloud", "/etc/hosts", File(b"127.0.0.1 old\n"), File(b"127.0.0.1 new\n")),
        Edit("files", "is read by the agent", "/etc/agent", None, Folder()),
        Edit("files", "is read by the agent", "/etc/agent/new.conf", None, File(b"a=1\n", 0o600)),
        Edit("files", "starts the agent", "/etc/systemd/system/agent.service", None, Link("/usr/lib/agent.service")),
        Edit("files", "is a program", "/usr/local/bin/agent", None, File(b"\x7fELF\0" * 100, 0o755)),
        Removal("files", WHY, "/var/lib/old", Kind.FOLDER, 12),
        Removal("files", WHY, "/var/log/old.log", Kind.FILE),
        LayoutEdit("disk", "replaces a partition", MakeSwapFile("/swapfile", 1 << 30)),
        LayoutEdit("disk", "lies behind the root", DropPartition(0, 3)),
        RebuildRequest("disk", "lacks virtio", Rebuild.INITRAMFS),
        findings=(
            Finding("files", "NET-007", Severity.WARNING, "/etc/app.conf names 10.0.0.1", "Change it."),
            Finding("disk", "DISK-004", Severity.NOTE, "swap becomes a file"),
            Finding("disk", "DISK-002", Severity.WARNING, "a disk is left behind", waived=True),
        ),
        facts=(Fact("files", "network before", "ens192 10.0.0.1/24\ngateway 10.0.0.254"),),
    )


def rehearsed() -> Preview:
    """One that was rehearsed, and came out otherwise."""
    explained = (
        Explained(INSTALLED, ("/usr/bin/a", "/usr/bin/b"), "new-agent"),
        Explained("caches of what is installed", ("/etc/ld.so.cache",)),
    )
    drift = (Drift("/etc/planted\x1b[2J is new, and nothing that was said explains it", "/etc/planted\x1b[2J"),)
    return replace(ordinary(), rehearsal=Rehearsal(11, 10, drift, explained))


def large(removals: int = 300, lines: int = 900) -> Preview:
    """Hundreds of removals for one reason, a long diff, a long line, and many files that are edited alike."""
    old = b"".join(b"old %d\n" % n for n in range(lines))
    new = b"".join(b"new %d\n" % n for n in range(lines))
    return preview(
        *(Removal("sweep", WHY, f"/opt/agent/lib/{n:03}/file", Kind.FILE) for n in range(removals)),
        *(Edit("repos", "names a mirror", f"/etc/yum.repos.d/{n}.repo", File(b"a\n"), File(b"b\n")) for n in range(30)),
        Edit("long", "is long", "/etc/long", File(old), File(new)),
        Edit("long", "is wide", "/etc/wide", None, File(b"#" * 5000 + b"\n")),
    )


BIDI = "\u202e\u2066\u200b\ufeff\u2028"
EVIL = (
    "<script>document.body.dataset.evil = 1</script>",
    "</style><style>body { display: none }</style>",
    '"><img src=x onerror="document.body.dataset.evil = 2">',
    '<a href="javascript:document.body.dataset.evil = 3">press</a>',
    "</pre></details><h1 id=evil>It can go.</h1>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "{{ 7*7 }}{% for x in y %}",
    "\x1b]0;evil\x07\x1b[2J\x00\x9b31m",
    f"safe{BIDI}evil",
    "<svg onload=document.body.dataset.evil=4><iframe src=http://127.0.0.1:9/>",
    "-->]]>&amp;&lt;script&gt;",
    b"\xff\xfe".decode("utf-8", "surrogateescape") + "\nforged: It can go.",
)


def hostile() -> Preview:
    """A guest whose names, texts, targets and versions are all planted."""
    effects: list[Effect] = []
    for number, evil in enumerate(EVIL):
        path = f"/etc/{number}{evil.replace('/', '|')}"
        content: Entry = File(evil.replace("\0", "").encode("utf-8", "surrogateescape") + b"\n")
        effects += (
            Edit("files", "is planted", path, File(b"old\n"), content),
            Edit("files", "is planted, too", f"{path}.link", None, Link(evil)),
            Removal("files", "is planted, as well", path, Kind.FILE),
            PackageEdit(
                "packages", "is planted", PackageChange((Package(evil, evil),), (Package(evil, evil),), evil, 1)
            ),
            LayoutEdit("disk", "is planted", MakeSwapFile(path, 1)),
        )
    everything = "".join(EVIL)
    made = preview(
        *effects,
        findings=tuple(Finding("files", "NET-007", Severity.WARNING, evil, evil) for evil in EVIL),
        facts=tuple(Fact("files", evil, evil) for evil in EVIL),
        name=everything,
    )
    return Preview(
        made.vm,
        Os("evil", (), everything, "", everything),
        made.layout,
        (everything,),
        everything,
        made.changes,
        occasion=Occasion(everything, OCCASION.made, OCCASION.version),
    )


SECRET = "Planted-Geheim-4711"
SECRETS: tuple[tuple[str, str], ...] = (
    ("/etc/shadow", f"root:{SECRET}:19000:0:99999:7:::\n"),
    ("/etc/gshadow", f"adm:{SECRET}::\n"),
    ("/etc/ssl/server.pem", f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"),
    ("/srv/odd-name.txt", f"hello\n  -----BEGIN EC PRIVATE KEY-----\n  {SECRET}\n"),
    ("/var/lib/waagent/Certificates.xml", f"<Data>{SECRET}</Data>\n"),
    ("/var/lib/amazon/ssm/registration", f'{{"ManagedInstanceID": "{SECRET}"}}\n'),
    ("/etc/netplan/50.yaml", f'network:\n  wifis:\n    w0: {{access-points: {{"net": {{password: "{SECRET}"}}}}}}\n'),
    ("/etc/NetworkManager/system-connections/w.nmconnection", f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={SECRET}\n"),
    ("/etc/wireguard/wg0.conf", f"[Interface]\nPrivateKey = {SECRET}\n"),
    ("/etc/ppp/chap-secrets", f"client server {SECRET} *\n"),
    ("/etc/iscsi/iscsid.conf", f"node.session.auth.password = {SECRET}\n"),
    ("/etc/kubernetes/admin.conf", f"users:\n- user:\n    client-key-data: {SECRET}\n"),
    ("/root/.netrc", f"machine a login b password {SECRET}\n"),
    ("/var/lib/cloud/instances/i-1/user-data.txt", f"#cloud-config\nruncmd: [echo {SECRET}]\n"),
    ("/etc/app.ini", f"[db]\nhost = a\npassword = {SECRET}\n"),
    ("/etc/app.yaml", f"db:\n  secret: |\n    {SECRET}\n  host: a\n"),
    ("/etc/wpa_supplicant/wpa_supplicant.conf", f'network={{\n  psk="{SECRET}"\n}}\n'),
)


def secret() -> Preview:
    """A guest whose secrets are added, changed and taken, and quoted in what is found."""
    effects: list[Effect] = []
    for path, text in SECRETS:
        content, other = text.encode(), text.replace(SECRET, SECRET[::-1]).encode()
        effects += (
            Edit("files", "is new", path, None, File(content, 0o600)),
            Edit("files", "changes", path, File(content, 0o600), File(other, 0o600)),
            Edit("files", "goes", path, File(other, 0o600), File(b"", 0o600)),
        )
    found = f"/etc/radius names 10.0.0.1: line 3: server=10.0.0.1 secret={SECRET}"
    return preview(
        *effects,
        findings=(Finding("files", "NET-007", Severity.WARNING, found, f"See http://a:{SECRET}@10.0.0.1/"),),
        facts=(Fact("files", "network before", f"wlan0: psk={SECRET}"),),
    )
