"""What crossed the guest's network card, read from QEMU's packet dump: who asked for an address, and who got one.

The dump is written by QEMU outside of the guest, so that a guest that says nothing on its console still shows what it did.
Only the first bytes of each packet are dumped. Formats: pcap-savefile(5), RFC 2131 (DHCP), RFC 826 (ARP).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKET_BYTES = 600
"""How much of a packet QEMU dumps: DHCP messages of every client seen fit."""

FILE_HEADER = 24
ARP, IPV4 = 0x0806, 0x0800
UDP = 17
DHCP_SERVER, DHCP_CLIENT = 67, 68
MESSAGE_TYPE = 53
COOKIE = b"\x63\x82\x53\x63"
ADDRESSES_KEPT = 8


@dataclass(slots=True)
class Wire:
    """The packets of one card so far. Times are those at which `read` saw the packet, on the caller's clock."""

    path: Path
    mac: str
    packets: int = 0
    asked_at: float | None = None
    """DHCPDISCOVER or DHCPREQUEST from the guest's card."""
    given_at: float | None = None
    """DHCPACK to the guest's card, of the address `given`."""
    given: str | None = None
    used_at: float | None = None
    """First packet from the guest that bears the given address."""
    spoke_as: list[str] = field(default_factory=list)
    """Addresses that the guest claimed as its own."""
    _offset: int = FILE_HEADER

    @property
    def size(self) -> int:
        """Bytes of the dump that were read."""
        return self._offset

    def read(self, now: float) -> None:
        """Take in what was dumped since the last call."""
        own = bytes.fromhex(self.mac.replace(":", ""))
        for packet in self._packets():
            self.packets += 1
            source, kind, payload = packet[6:12], int.from_bytes(packet[12:14], "big"), packet[14:]
            if kind == IPV4 and len(payload) >= 20 and payload[9] == UDP:
                self._dhcp(payload, own, now)
            if source != own:
                continue
            if kind == ARP and len(payload) >= 18:
                self._spoke(payload[14:18], now)
            elif kind == IPV4 and len(payload) >= 20:
                self._spoke(payload[12:16], now)

    def _packets(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        position = 0
        while len(content) - position >= 16:
            (length,) = struct.unpack_from("<I", content, position + 8)
            end = position + 16 + length
            if end > len(content):
                break
            yield content[position + 16 : end]
            position = end
        self._offset += position

    def _dhcp(self, packet: bytes, own: bytes, now: float) -> None:
        header = (packet[0] & 0xF) * 4
        ports = packet[header : header + 4]
        message = packet[header + 8 :]
        if len(message) < 240 or message[28:34] != own or message[236:240] != COOKIE:
            return
        kind = _message_type(message[240:])
        if ports[2:] == DHCP_SERVER.to_bytes(2, "big") and kind in (1, 3):
            self.asked_at = now if self.asked_at is None else self.asked_at
        elif ports[2:] == DHCP_CLIENT.to_bytes(2, "big") and kind == 5:
            self.given = _dotted(message[16:20])
            self.given_at = now if self.given_at is None else self.given_at

    def _spoke(self, address: bytes, now: float) -> None:
        text = _dotted(address)
        if not any(address):  # it has none yet
            return
        if text not in self.spoke_as and len(self.spoke_as) < ADDRESSES_KEPT:
            self.spoke_as.append(text)
        if text == self.given and self.used_at is None:
            self.used_at = now


def _message_type(options: bytes) -> int | None:
    position = 0
    while position + 2 < len(options) and options[position] != 255:
        if options[position] == 0:
            position += 1
        elif options[position] == MESSAGE_TYPE:
            return options[position + 2]
        else:
            position += 2 + options[position + 1]
    return None


def _dotted(address: bytes) -> str:
    return ".".join(str(octet) for octet in address)
