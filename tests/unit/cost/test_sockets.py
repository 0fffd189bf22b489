"""The kernel's count of sent bytes is that of the bytes that were sent."""

from __future__ import annotations

import os
import socket

import pytest

from segframe.cost import sockets

pytestmark = pytest.mark.skipif(sockets.why_not() is not None, reason=str(sockets.why_not()))


@pytest.fixture
def connected():
    """Two ends of a connection, and the port that was listened on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            yield near, far, port


def test_sent_bytes_are_counted(connected):
    near, far, _ = connected
    before = sockets.sent(store_port=1)
    near.sendall(b"x" * 12_345)
    assert len(far.recv(12_345, socket.MSG_WAITALL)) == 12_345
    far.sendall(b"y" * 55)
    near.recv(55, socket.MSG_WAITALL)
    assert sockets.sent(store_port=1) - before == sockets.Sent(to_ranks=12_400, to_store=0)


def test_the_store_is_counted_apart(connected):
    near, far, port = connected
    before = sockets.sent(store_port=port)
    near.sendall(b"x" * 100)
    far.recv(100, socket.MSG_WAITALL)
    assert sockets.sent(store_port=port) - before == sockets.Sent(to_ranks=0, to_store=100)


def test_looking_leaves_no_descriptor_and_closes_none(connected):
    near, far, _ = connected
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        sockets.sent(store_port=1)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    near.sendall(b"still open")
    assert far.recv(10, socket.MSG_WAITALL) == b"still open"
