"""The guest's network reaches nothing of this machine, and the programs that touch the guest see nothing of it."""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrate.errors import ToolFailed
from migrate.proof.gate import METADATA_ADDRESS, METADATA_PORT
from migrate.proof.namespace import Namespace, network_namespace
from migrate.run import Run

GUEST_MAC, ROUTER_MAC = bytes.fromhex("021122334455"), bytes.fromhex("52550a000202")
SYN, RST, ACK = 0x02, 0x04, 0x10


@pytest.fixture
def namespace(run: Run) -> Iterator[Namespace]:
    with network_namespace(run, run.work) as made:
        yield made


@contextmanager
def host_service() -> Iterator[int]:
    """A service of this machine that listens on loopback: what a guest must never reach. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


class Card:
    """A guest's network card in ten lines: frames go to QEMU's user network as a guest's driver would send them."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(3)

    def send(self, kind: int, payload: bytes) -> None:
        frame = ROUTER_MAC + GUEST_MAC + kind.to_bytes(2, "big") + payload
        self.connection.sendall(len(frame).to_bytes(4, "big") + frame)

    def flags_of_answer(self, address: str, port: int) -> int | None:
        """Ask for a TCP connection; return the flags of the answer, None where none comes."""
        source, target = socket.inet_aton("10.0.2.15"), socket.inet_aton(address)
        # A gratuitous ARP first, so that the answer finds us.
        self.send(0x0806, struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + GUEST_MAC + source + bytes(6) + source)
        tcp = struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 5 << 4, SYN, 8192, 0, 0)
        pseudo = source + target + struct.pack(">BBH", 0, 6, len(tcp))
        tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + source + target
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        self.send(0x0800, ip + tcp)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            frame = self.frame()
            if frame is None:
                return None
            if frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[36:38] == (40000).to_bytes(2, "big"):
                return frame[47]
        return None

    def frame(self) -> bytes | None:
        try:
            size = int.from_bytes(self.exactly(4), "big")
            return self.exactly(size)
        except TimeoutError:
            return None

    def exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            more = self.connection.recv(size - len(content))
            assert more, "QEMU has gone"
            content += more
        return content


def checksum(content: bytes) -> int:
    """RFC 1071."""
    content += b"\0" * (len(content) % 2)
    total: int = sum(struct.unpack(f">{len(content) // 2}H", content))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@contextmanager
def card(run: Run, namespace: Namespace | None) -> Iterator[Card]:
    """A card on the same user network that the proof gives its guests; without a namespace, on the host's own network."""
    ours, theirs = socket.socketpair()
    argv: Sequence[str | Path] = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none"),
        *("-netdev", f"socket,id=wire,fd={theirs.fileno()}", "-netdev", "hubport,id=a,hubid=0,netdev=wire"),
        *("-netdev", "user,id=net", "-netdev", "hubport,id=b,hubid=0,netdev=net"),
    ]
    argv = argv if namespace is None else namespace.caged(argv)
    with (
        ours,
        theirs,
        run.daemon(argv, ready=lambda: True, log=run.work / "qemu.log", pass_fds=(theirs.fileno(),)),
    ):
        theirs.close()
        yield Card(ours)


def test_on_an_ordinary_qemu_network_a_guest_reaches_the_hosts_loopback(run: Run) -> None:
    """What there is to be afraid of; it also shows that the next test could see it."""
    with host_service() as port, card(run, None) as guest:
        assert guest.flags_of_answer("10.0.2.2", port) == SYN | ACK


def test_in_the_namespace_a_guest_does_not_reach_the_hosts_loopback(run: Run, namespace: Namespace) -> None:
    with host_service() as port, card(run, namespace) as guest:
        assert guest.flags_of_answer("10.0.2.2", port) == RST | ACK


def test_in_the_namespace_a_guest_reaches_the_metadata_service(run: Run, namespace: Namespace) -> None:
    with card(run, namespace) as guest:
        assert guest.flags_of_answer(METADATA_ADDRESS, METADATA_PORT) == SYN | ACK


def test_the_namespace_has_no_way_out_of_this_machine(run: Run, namespace: Namespace) -> None:
    # 192.0.2.1 is nobody's: RFC 5737.
    words = ["python3", "-c", "import socket; socket.create_connection(('192.0.2.1', 9), timeout=5)"]
    with pytest.raises(ToolFailed, match="Network is unreachable"):
        run.tool(namespace.caged(words))


def test_dialling_goes_to_the_namespace_and_not_to_the_host(run: Run, namespace: Namespace) -> None:
    with host_service() as port:
        assert namespace.dial(port) is None
    server = "import socket; s = socket.create_server(('127.0.0.1', 2222)); print('up', flush=True); s.accept()[0].send(b'hello')"
    log = run.work / "server.log"
    with run.daemon(
        namespace.caged(["python3", "-c", server]),
        ready=lambda: b"up" in log.read_bytes() if log.exists() else False,
        log=log,
    ):
        connection = namespace.dial(2222)
        assert connection is not None
        with connection:
            assert connection.recv(10) == b"hello"


def test_a_caged_program_sees_the_files_that_are_named_and_no_others(run: Run, namespace: Namespace) -> None:
    named, other = run.work / "named", run.work / "other"
    named.write_text("content")
    other.write_text("secret")
    look = f"cat {named}; ls -A {run.work}; ls -A /etc /root /home /var 2>/dev/null; echo x >{named} 2>/dev/null || echo read-only"
    seen = run.tool(namespace.caged(["sh", "-c", look], readable=[named]), ok=range(256)).text
    assert seen.startswith("content")
    assert "read-only" in seen
    assert not {"other", "shadow", "hostname", "ssh"} & set(seen.split())


def test_a_caged_program_has_no_capability_and_none_of_our_environment(
    run: Run, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGC_API_KEY", "do-not-tell")
    from migrate.proof.namespace import ENVIRONMENT

    assert "do-not-tell" not in run.tool(namespace.caged(["env"]), env=ENVIRONMENT).text
    # What needs CAP_NET_ADMIN, CAP_SYS_ADMIN or CAP_NET_BIND_SERVICE in the namespace is refused.
    for attempt in (
        "hostname x",
        "mount -t tmpfs x /tmp",
        "python3 -c \"import socket; socket.create_server(('127.0.0.1', 80))\"",
    ):
        with pytest.raises(ToolFailed):
            run.tool(namespace.caged(["sh", "-c", attempt]), env=ENVIRONMENT)


def test_the_namespace_goes_when_its_block_is_left(run: Run) -> None:
    with network_namespace(run, run.work) as namespace:
        assert Path(f"/proc/{namespace.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert not Path(f"/proc/{namespace.pid}").exists()
