"""What is never shown of a guest: secrets, known by where they lie, by what they look like, and by what they are called.

A preview is printed, mailed and signed; the secrets of the guest must not travel with it. In doubt something is hidden: a reader who misses
a line can look into the guest, a password that was printed cannot be called back. The plan's hash covers the real content all the same.
"""

import re
from collections.abc import Iterator, Sequence

HIDDEN = "(not shown)"
MOST = 4000
"""A line that is longer and holds the name of a secret is hidden whole: it is no line that a person wrote."""

# Files of which nothing is shown.
SECRET_PATHS = re.compile(
    r"""
      ^/etc/(?:g?shadow-?|security/opasswd|ssl/private/.*|pki/tls/private/.*|ssh/ssh_host_[^/]*_key|krb5\.keytab
            |wireguard/.*|ppp/(?:chap|pap|srp)-secrets|ipsec\.(?:secrets|d/private/.*)|swanctl/private/.*
            |kubernetes/.*\.conf|rancher/k3s/k3s\.yaml|sysconfig/network-scripts/keys-.*|letsencrypt/accounts/.*
            |postfix/sasl.*|rndc\.key|cloud/.*user-data.*|mysql/debian\.cnf|credstore(?:\.encrypted)?/.*|ceph/.*keyring.*)$
    | ^/var/lib/(?:waagent|amazon/ssm|cloud|systemd/credential|samba/private|sss/secrets|kubelet/pki
            |NetworkManager/secret_key)(?:/.*)?$
    | ^/(?:root|home/[^/]+)/\.(?:aws/credentials|azure/.*|config/gcloud/.*|kube/config|docker/config\.json|pgpass
            |my\.cnf|git-credentials|s3cfg|gnupg/.*|mgc/.*|config/mgc/.*|vault-token|npmrc|pypirc)$
    | /(?:id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|[^/]*\.(?:key|pem|p12|pfx|jks|keystore|keytab|kdbx|ppk|ovpn)
        |(?:user|vendor)-data(?:\.txt|\.i)?|kubeconfig|\.?netrc)$
    """,
    re.VERBOSE,
)

# Content that makes a whole file a secret: below its first line a key may be wrapped or indented in any way.
SECRET_CONTENT = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|-----BEGIN OpenVPN Static key|^PuTTY-User-Key-File-\d",
    re.MULTILINE,
)

# Secrets wherever they stand. Sources: crypt(5); grub-mkpasswd-pbkdf2(1); RFC 7519; the prefixes that vendors document for their keys.
_TOKENS = re.compile(
    r"""
      \$(?:1|2[abxy]?|5|6|7|y|gy|sha1|md5|argon2(?:id?|d)|apr1)\$[^\s:"',]+
    | \{(?:SSHA|SHA|SMD5|MD5|CRYPT|SSHA\d+)\}[A-Za-z0-9+/=$.]+
    | grub\.pbkdf2\.[\w.]+
    | \beyJ[\w-]{10,}\.[\w-]+\.[\w-]*
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b | \bgh[pousr]_\w{20,} | \bglpat-[\w-]{15,} | \bxox[abprs]-[\w-]{10,}
    | \bAGE-SECRET-KEY-1\w+ | \bhv[sb]\.[\w-]{20,}
    """,
    re.VERBOSE,
)
# Secrets behind words that lead to them. Sources: RFC 3986, 3.2.1; RFC 9110, 11.6.2; curl(1); sshpass(1).
_LED = re.compile(
    r"""(?ix) ( //[^\s/:@]{0,200}: (?=[^\s/]{1,200}@)
            | \buser(?:name)?=[^\s,%]{1,100}% | \b(?:auth_pass|private-key|preshared-key)\s+ | :\s+psk\s+
            | \bauthorization\b\W{1,4}(?:(?:basic|bearer|token)\s+)? | \bbearer\s+
            | \bidentified\s+by\s+ | (?:^|\s)(?:-u|--user)[\s=][^\s:]{1,100}: | \bsshpass\s+-p\s* )
        (?: (?<=:)[^\s/@]+(?=@) | "[^"]*" | '[^']*' | [^\s"'@]+ )
    """
)

_NAME = (
    r"(?:pass(?:wo?r?d|phrase|code|wd)s?|pwd|secrets?|psk|tokens?|credentials?|(?<![a-z])pass(?![a-z])|community"
    r"|(?:api|access|account|private|pre-?shared|shared|auth|secret|encryption|master|storage|client|license|signing)"
    r"[_-]?keys?(?:[_-]data)?|wep[_-]?key\d?|wireless-key\d?)"
)
_WORD = rf"[\w.\[\]/-]{{0,60}}{_NAME}[\w.-]{{0,60}}"
_HINT = re.compile(rf"(?i){_NAME}|\bkeys?\b|createuser|com2sec|private|shared|\bpin\b|mka-c|xauth|setcredential")
"""What each name has in it. Most lines have nothing of it, and are not looked at any closer."""
_ASSIGNED = re.compile(rf"(?i)({_WORD}[\"']?\s{{0,40}}(?:=>|[:=])\s{{0,40}})(\S.*)$")
_XML = re.compile(rf"(?i)(<({_WORD})(?:\s[^<>]{{0,200}})?>)[^<]+(?=</\2)")
_SAID = re.compile(
    r"(?i)^(\s*[+-]?\s*(?:set\s+|export\s+)?[\"']?(?:[\w-]*(?:pass(?:word|wd|phrase)|secret|psk|wep-?key\d?)|auth_pass|wireless-key\d?"
    r"|r[ow]community6?|community|com2sec\s+\S+\s+\S+|createuser|token|key)[\"']?\s+)(\S.*)$"
)
_OPENS = re.compile(rf"(?i)^\s*(?:-\s+)?[\"']?{_WORD}[\"']?\s{{0,40}}[:=]")
_SECTION = re.compile(r"^\s*\[(.*)\]\s*$")

# Values that tell a state and no secret; names that say where a secret is, or how it is asked for.
_PLAIN = re.compile(r"(?i)^[\"']?(?:true|false|yes|no|on|off|none|null|required|optional)[\"']?\s*[,;}]*\s*(?:\#.*)?$")
_ABOUT = re.compile(
    r"(?i)(?:file|path|dir|flags|type|mode|timeout|age|length|min|max|command|module|mgmt|prompt|store|policy)\w*[\"']?\s*[:=]"
)
_FILE_VALUE = re.compile(r"^[\"']?/[\w./@+-]+[\"']?\s*[,;}]*\s*$")

# Files in whose language the names mean something else: "passwd: files", "password required pam_unix.so", "PasswordAuthentication no".
_OTHER_TONGUE = re.compile(
    r"^/etc/(?:nsswitch\.conf|pam\.d/.*|pam\.conf|ssh/sshd?_config(?:\.d/.*)?|login\.defs|sudoers(?:\.d/.*)?|authselect/.*"
    r"|security/pwquality\.conf.*|adduser\.conf|deluser\.conf|default/useradd)$"
    r"|\.(?:service|socket|timer|target|mount|path|rules)$|\.(?:service|socket)\.d/[^/]*$"
)
_GIVEN = re.compile(rf"(?i)((?:(?:--|[=\s\"']){_WORD}=|--{_WORD}\s+|^\s*SetCredential(?:Encrypted)?=))(\S.*)$")
# A kernel's command line goes on behind a secret.
_COMMAND_LINE = re.compile(
    r"^/(?:boot/.*|efi/.*|loader/.*|etc/default/grub(?:\.d/.*)?|etc/kernel/cmdline.*|etc/zipl\.conf)$"
)
_MENU_PASSWORD = re.compile(r"^(\s*password\s+(?:--\S+\s+)?\S+\s+)\S+")
"""GRUB's "password USER CLEAR-PASSWORD". Source: GRUB manual, Security."""
_ARGUMENT = re.compile(rf"(?i)({_WORD}(?:=|:\s))(\"[^\"]*\"|'[^']*'|[^\s\"']+)")

# Names that are secrets in one language only. Sources: systemd.netdev(5), netplan(5), nm-settings-keyfile(5), wpa_supplicant.conf(5).
_LOCAL = (
    (re.compile(r"\.netdev$"), re.compile(r"^(\s*(?:Key|PeerKey)\s*=\s*)\S.*$")),
    (re.compile(r"^/etc/netplan/"), re.compile(r"(\b(?:key|private|shared)\s*:\s*)\S.*$")),
    (
        re.compile(r"\.nmconnection$|/system-connections/"),
        re.compile(r"^(\s*(?:pin|mka-c[ak]k\w*|wep-key\d)\s*=\s*)\S.*$"),
    ),
    (re.compile(r"wpa_supplicant"), re.compile(r"^(\s*#?(?:wep_key\d|pin)\s*=\s*)\S.*$")),
)


def is_secret(path: str, content: bytes = b"") -> bool:
    """Whether nothing of a file may be shown: neither its content, nor its size or digest."""
    return SECRET_PATHS.search(path) is not None or SECRET_CONTENT.search(content) is not None


def is_named(key: str) -> bool:
    """Whether what has this name is a secret."""
    return re.fullmatch(rf"(?i){_WORD}", key) is not None and not _ABOUT.search(f"{key}=")


def lines(path: str, text: Sequence[str]) -> list[str]:
    """Return a file's lines, as many as there were and with their ends, without the secrets in them."""
    return list(_masked(path, text))


def sentence(text: str) -> str:
    """Return our own words about a guest without the secrets in what they quote."""
    return "\n".join(map(_quoted, text.split("\n")))


def _masked(path: str, text: Sequence[str]) -> Iterator[str]:
    hide = _Hiding(path)
    below: int | None = None
    in_secrets = False
    for whole in text:
        line = whole.rstrip("\r\n")
        end = whole[len(line) :]
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            yield whole
        elif below is not None and (indent > below or (indent == below and line.lstrip().startswith("- "))):
            yield line[:indent] + HIDDEN + end  # the value of the name above goes on
        elif in_secrets and "=" in line and not _SECTION.match(line):
            yield f"{line.partition('=')[0]}={HIDDEN}{end}"
        elif len(line) > MOST and _HINT.search(line):
            yield HIDDEN + end
        else:
            if section := _SECTION.match(line):
                in_secrets = "secrets" in section[1]  # NetworkManager's [vpn-secrets]
            masked = hide(line)
            opens = _OPENS.match(line)
            value = line[opens.end() :].strip() if opens else ""
            below = indent if opens and (masked != line or value in ("", "|", ">", "|-", ">-", "|+", ">+")) else None
            yield masked + end


class _Hiding:
    """Hides what is secret in one line of a file; the path says in which language it is written."""

    def __init__(self, path: str) -> None:
        self._other = _OTHER_TONGUE.search(path) is not None
        self._cut = _COMMAND_LINE.search(path) is not None
        self._local = [pattern for place, pattern in _LOCAL if place.search(path)]

    def __call__(self, line: str) -> str:
        line = _tokens(line)
        if not _HINT.search(line):
            return line
        for pattern in self._local:
            line = pattern.sub(rf"\1{HIDDEN}", line)
        if self._cut:
            line = _MENU_PASSWORD.sub(rf"\1{HIDDEN}", line)
            return _ARGUMENT.sub(rf"\1{HIDDEN}", line)
        found = (_GIVEN if self._other else _ASSIGNED).search(line)
        if found is not None and not _is_plain(found[1], found[2]):
            return line[: found.start(2)] + HIDDEN
        if self._other:
            return line
        line = _XML.sub(rf"\1{HIDDEN}", line)
        said = _SAID.match(line)
        if found is None and said is not None and not _PLAIN.match(said[2]):
            return said[1] + HIDDEN
        return line


def _quoted(line: str) -> str:
    line = _tokens(line)
    if not _HINT.search(line):
        return line
    return HIDDEN if len(line) > MOST else _ARGUMENT.sub(rf"\1{HIDDEN}", line)


def _is_plain(name: str, value: str) -> bool:
    if _PLAIN.match(value) or _ABOUT.search(name):
        return True
    return _FILE_VALUE.match(value) is not None and "pass" not in name.lower()


def _tokens(line: str) -> str:
    return _LED.sub(rf"\1{HIDDEN}", _TOKENS.sub(HIDDEN, line))
