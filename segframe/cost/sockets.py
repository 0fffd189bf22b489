"""Bytes that this process has sent to others, as the kernel has counted them on each TCP connection."""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

_ESTABLISHED = 1
# struct tcp_info of linux/tcp.h: both are __u64, since Linux 4.19.
_BYTES_SENT, _BYTES_RETRANSMITTED = 200, 208
_DESCRIPTORS = "/proc/self/fd"


class Sent(NamedTuple):
    """Bytes that left this process, payload of TCP without repetitions.

    Attributes:
        to_ranks: Over connections between ranks.
        to_store: Over those to the store in which ranks find each other, or from it.
    """

    to_ranks: int
    to_store: int

    def __sub__(self, earlier: Sent) -> Sent:
        return Sent(self.to_ranks - earlier.to_ranks, self.to_store - earlier.to_store)


def why_not() -> str | None:
    """Returns why bytes can't be counted here, None where they can."""
    if sys.platform != "linux":
        return f"the kernel counts bytes per connection on Linux alone, and this is {sys.platform}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        length = len(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))
    if length < _BYTES_RETRANSMITTED + 8:
        return f"this kernel tells {length} bytes of tcp_info; the count of bytes sent came with Linux 4.19"
    return None


def sent(store_port: int) -> Sent:
    """Returns what this process's open connections have sent so far.

    Args:
        store_port: The port of the store; connections to or from it are counted apart.

    Raises:
        OSError: If this system doesn't count, see ``why_not``.
    """
    to_ranks = to_store = 0
    for connection in _connections():
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
        if info[0] != _ESTABLISHED:
            continue
        (total,), (again,) = (struct.unpack_from("Q", info, offset) for offset in (_BYTES_SENT, _BYTES_RETRANSMITTED))
        if store_port in (connection.getsockname()[1], connection.getpeername()[1]):
            to_store += total - again
        else:
            to_ranks += total - again
    return Sent(to_ranks, to_store)


def _connections() -> Iterator[socket.socket]:
    """Yields the TCP sockets of this process, each closed behind its turn; the process's own stay open."""
    for name in os.listdir(_DESCRIPTORS):
        try:
            descriptor = os.dup(int(name)) if stat.S_ISSOCK(os.stat(f"{_DESCRIPTORS}/{name}").st_mode) else None
        except OSError:  # closed since it was listed
            continue
        if descriptor is None:
            continue
        with socket.socket(fileno=descriptor) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                yield found
