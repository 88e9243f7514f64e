"""Reading the packet dump of the guest's card."""

import struct
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from migrate.proof.wire import Wire

MAC = "02:11:22:33:44:55"
OWN = bytes.fromhex(MAC.replace(":", ""))
OTHER = bytes.fromhex("525400123456")
HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 600, 1)


def record(packet: bytes) -> bytes:
    return struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet


def ethernet(source: bytes, kind: int, payload: bytes) -> bytes:
    return b"\xff" * 6 + source + kind.to_bytes(2, "big") + payload


def ipv4(source: str, payload: bytes) -> bytes:
    octets = bytes(int(octet) for octet in source.split("."))
    return b"\x45" + bytes(8) + bytes([17]) + bytes(2) + octets + bytes(4) + payload


def dhcp(source: bytes, ports: tuple[int, int], kind: int, given_address: bytes = bytes(4)) -> bytes:
    message = (
        bytes(16) + given_address + bytes(8) + OWN + bytes(202) + b"\x63\x82\x53\x63" + bytes([0, 53, 1, kind, 255, 0])
    )
    udp = struct.pack(">HHHH", *ports, 8 + len(message), 0)
    return ethernet(source, 0x0800, ipv4("0.0.0.0" if source == OWN else "10.0.2.2", udp + message))  # noqa: S104


def arp(address: str) -> bytes:
    octets = bytes(int(octet) for octet in address.split("."))
    return ethernet(OWN, 0x0806, bytes(8) + OWN + octets + bytes(10))


def wire_of(tmp_path: Path, *packets: bytes) -> Wire:
    file = tmp_path / "packets.pcap"
    file.write_bytes(HEADER + b"".join(record(packet) for packet in packets))
    wire = Wire(file, MAC)
    wire.read(7.0)
    return wire


def test_a_lease_is_seen_from_the_question_to_the_use(tmp_path: Path) -> None:
    file = tmp_path / "packets.pcap"
    wire = Wire(file, MAC)
    wire.read(0.0)
    steps = [
        dhcp(OWN, (68, 67), 1),
        dhcp(OTHER, (67, 68), 2, bytes([10, 0, 2, 15])),
        dhcp(OTHER, (67, 68), 5, bytes([10, 0, 2, 15])),
        arp("10.0.2.15"),
    ]
    content = HEADER
    for moment, packet in enumerate(steps):
        content += record(packet)
        file.write_bytes(content)
        wire.read(float(moment))
    assert (wire.asked_at, wire.given_at, wire.used_at) == (0.0, 2.0, 3.0)
    assert (wire.given, wire.spoke_as) == ("10.0.2.15", ["10.0.2.15"])


def test_a_guest_with_a_fixed_address_is_seen_to_ask_for_none(tmp_path: Path) -> None:
    wire = wire_of(tmp_path, arp("192.168.10.20"), arp("192.168.10.20"))
    assert (wire.asked_at, wire.given, wire.spoke_as) == (None, None, ["192.168.10.20"])


def test_a_lease_for_another_card_is_not_the_guests(tmp_path: Path) -> None:
    foreign = dhcp(OTHER, (67, 68), 5, bytes([10, 0, 2, 15])).replace(OWN, OTHER)
    assert wire_of(tmp_path, foreign).given is None


def test_half_a_record_is_read_when_its_rest_has_come(tmp_path: Path) -> None:
    file = tmp_path / "packets.pcap"
    whole = HEADER + record(arp("10.0.2.15"))
    file.write_bytes(whole[:-5])
    wire = Wire(file, MAC)
    wire.read(1.0)
    assert wire.packets == 0
    file.write_bytes(whole)
    wire.read(2.0)
    assert (wire.packets, wire.spoke_as) == (1, ["10.0.2.15"])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=400), max_size=5))
def test_no_packet_of_a_guest_breaks_the_reading(tmp_path_factory: object, packets: list[bytes]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        framed = [OWN.join([b"\xff" * 6, b"\x08\x00"]) + packet for packet in packets]
        assert wire_of(Path(folder), *packets, *framed).packets == 2 * len(packets)
