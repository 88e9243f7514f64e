"""The only process of ours inside the guest's network namespace. Run as a program, with the number of a socket.

It gives the namespace its loopback with the metadata address, hands out the listening socket of the metadata service, and then connects
on request: a socket belongs to the namespace that it was made in, whoever holds it. It never reads a byte of the guest's.
Standard library only, because it runs under `python -I -S`.
"""

import fcntl
import socket
import struct
import sys

METADATA_ADDRESS = "169.254.169.254"
METADATA_PORT = 80

# linux/sockios.h and linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
IFF_UP = 1


def raise_loopback() -> None:
    """Bring `lo` up, which gives it 127.0.0.1, and add the metadata address to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))
        fcntl.ioctl(any_socket, SIOCSIFADDR, _address_request(METADATA_ADDRESS))
        # Without it the whole of 169.254.0.0/16 would be local.
        fcntl.ioctl(any_socket, SIOCSIFNETMASK, _address_request("255.255.255.255"))


def _address_request(address: str) -> bytes:
    """Return a struct ifreq that names the alias lo:1. Source: netdevice(7)."""
    return struct.pack("16sHH4s16x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(address))


def main(control: socket.socket) -> None:
    raise_loopback()
    with socket.create_server((METADATA_ADDRESS, METADATA_PORT), backlog=16) as listener:
        socket.send_fds(control, [b"ready"], [listener.fileno()])
    while request := control.recv(16):
        try:
            with socket.create_connection(("127.0.0.1", int(request)), timeout=5) as connection:
                connection.settimeout(None)
                socket.send_fds(control, [b"open"], [connection.fileno()])
        except OSError:
            control.send(b"refused")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
