"""Two machines in one: network namespaces with a cable each to a switch, in which torchrun runs as a user's would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORT = 29400
STORE = "10.77.0.254"
"""The address of the switch, where a rendezvous store outside both nodes can be."""

QUICK = "last_call_timeout=8,keep_alive_interval=1,keep_alive_max_attempt=3,read_timeout=20"
"""Lets torchrun notice a lost node in 3 seconds instead of 15, and wait 8 for it instead of 30."""


class Node:
    """A network namespace that stands for a machine; what runs in it is known by it."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name, self.number, self.address = name, number, f"10.77.0.{number + 1}"
        self.log = folder / f"node-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, **variables: str) -> None:
        """Runs a command line in the node; its output is added to the node's log."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TORCHELASTIC_", "PYTEST_"))}
        quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0", "TORCH_CPP_LOG_LEVEL": "ERROR", "COLUMNS": "200"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=kept | quiet | variables,
                start_new_session=True,  # a Ctrl-C of pytest is no part of a test
            )

    def start_and_wait(self, *words: str) -> None:
        """Runs a short command line in the node."""
        subprocess.run(["ip", "netns", "exec", self.name, *words], check=True, timeout=20)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def pids(self) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(word) for word in done.stdout.split()]

    def rank_pid(self, rank: int) -> int | None:
        """Returns the process of a rank that runs in this node."""
        for pid in self.pids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if b"torch.distributed.run" not in words and f"RANK={rank}".encode() in variables:
                    return pid
        return None

    def kill_rank(self, rank: int) -> None:
        """Ends a rank at once."""
        pid = self.rank_pid(rank)
        assert pid is not None, self.said
        os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Ends everything in the node at once, as pulling its plug does."""
        deadline = time.monotonic() + 20
        while pids := self.pids():
            assert time.monotonic() < deadline, f"{pids} don't end"
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None:
                self.process.poll()
            time.sleep(0.02)
        if self.process is not None:
            self.process.wait(20)

    def end(self, timeout_s: float) -> int:
        """Waits for what was started and returns its exit code, -N after signal N; nothing else may be left."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"node {self.number} had not ended after {timeout_s} s:\n{self.said}") from None
        deadline = time.monotonic() + 10
        while left := self.pids():
            assert time.monotonic() < deadline, f"node {self.number} left {left} behind:\n{self.said}"
            time.sleep(0.05)
        return code

    def cable(self, state: str) -> None:
        """Plugs the cable in (``up``) or pulls it out (``down``)."""
        _ip("-n", self.name, "link", "set", "eth0", state)


class Cluster:
    """Nodes, and torchrun on them."""

    def __init__(self, nodes: list[Node], switch: Node) -> None:
        self.nodes, self.switch = nodes, switch

    def torchrun(
        self,
        *words: str,
        only: int | None = None,
        nnodes: str = "2",
        max_restarts: int = 0,
        conf: str = "is_host={is_host}",
        endpoint: str = f"10.77.0.1:{PORT}",
        job: str = "job",
        **variables: str,
    ) -> None:
        """Starts ``torchrun train.py WORDS`` on all nodes, or on only one, the first hosting the rendezvous.

        All namespaces have one host name, so torchrun can't tell by itself who hosts it and has to be told.
        """
        for node in self.nodes if only is None else [self.nodes[only]]:
            is_host = conf.format(is_host=str(node.number == 0).lower())
            node.start(
                *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={nnodes}", "--nproc-per-node=1"),
                *("--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={job}"),
                *(f"--rdzv-conf={is_host},{QUICK}", f"--local-addr={node.address}", f"--max-restarts={max_restarts}"),
                *(str(ROOT / "train.py"), "strategy=ddp", *words),
                **variables,
            )

    def end(self, timeout_s: float = 240) -> list[int]:
        """Waits for all nodes; returns their exit codes."""
        deadline = time.monotonic() + timeout_s
        return [node.end(max(1.0, deadline - time.monotonic())) for node in self.nodes]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 240) -> None:
        """Returns as soon as a condition holds while something runs."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            running = [n for n in self.nodes if n.process is not None and n.process.poll() is None]
            assert running, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.003)

    @property
    def said(self) -> str:
        return "\n".join(f"--- node {node.number}\n{node.said}" for node in self.nodes)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _wire(nodes: list[Node], switch: Node) -> None:
    """Makes the namespaces and their cables."""
    _ip("netns", "add", switch.name)
    _ip("-n", switch.name, "link", "add", "bridge", "type", "bridge")
    _ip("-n", switch.name, "addr", "add", f"{STORE}/24", "dev", "bridge")
    _ip("-n", switch.name, "link", "set", "bridge", "up")
    for node in nodes:
        port = f"port{node.number}"
        _ip("netns", "add", node.name)
        _ip("-n", node.name, "link", "set", "lo", "up")
        _ip("link", "add", "eth0", "netns", node.name, "type", "veth", "peer", "name", port, "netns", switch.name)
        _ip("-n", switch.name, "link", "set", port, "master", "bridge", "up")
        _ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", "eth0")
        node.cable("up")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of this test's own."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command (iproute2), which makes the network namespaces that stand for nodes")
    nodes = [Node(f"segframe-{os.getpid()}-{number}", number, tmp_path) for number in range(2)]
    switch = Node(f"segframe-{os.getpid()}-switch", 253, tmp_path)
    try:
        try:
            _wire(nodes, switch)
        except OSError as error:
            pytest.skip(f"this machine permits no network namespaces: {error}")
        yield Cluster(nodes, switch)
    finally:
        for node in [*nodes, switch]:
            node.kill()
            subprocess.run(["ip", "netns", "del", node.name], capture_output=True, check=False)
