"""A TCP relay from an address of this machine to a guest that no network leads to."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

BLOCK = 65536
TICK_S = 0.2


@contextmanager
def relayed(dial: Callable[[], socket.socket | None], address: str, port: int) -> Iterator[str | None]:
    """Pass connections on while the block lasts; yield the address, None where this process may not listen there."""
    try:
        listener = socket.create_server((address, port))
    except OSError:
        yield None
        return
    over = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        listener.settimeout(TICK_S)
        while not over.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                one = threading.Thread(target=_passed_on, args=(client, dial, over), name="relay", daemon=True)
                threads.append(one)
                one.start()

    acceptor = threading.Thread(target=accept, name="relay", daemon=True)
    acceptor.start()
    try:
        yield address
    finally:
        over.set()
        for thread in (acceptor, *threads):
            thread.join()
        listener.close()


def _passed_on(client: socket.socket, dial: Callable[[], socket.socket | None], over: threading.Event) -> None:
    """One connection, until an end closes it."""
    with client:
        server = dial()
        if server is None:
            return
        with server, suppress(OSError), selectors.DefaultSelector() as waiting:
            waiting.register(client, selectors.EVENT_READ, server)
            waiting.register(server, selectors.EVENT_READ, client)
            while not over.is_set():
                for key, _ in waiting.select(TICK_S):
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)  # noqa: S101 - what was registered
                    block = source.recv(BLOCK)
                    if not block:
                        return
                    sink.sendall(block)
