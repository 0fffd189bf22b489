"""srun's variables, translated into torchrun's: what else asks for its place among the ranks knows one language."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

_NOT_STEPS = 4294967290  # and above: numbers of the batch script, an interactive shell and the like


def adopt(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Sets torchrun's variables where srun has started this process beside others; returns whether it has.

    A command in the shell of sbatch or salloc is no step of srun and stays alone.

    Args:
        environment: The variables of the process.

    Raises:
        ValueError: If srun's variables contradict each other.
    """
    step = environment.get("SLURM_STEP_ID", "")
    if "RANK" in environment or "SLURM_PROCID" not in environment or not step.isdigit() or int(step) >= _NOT_STEPS:
        return False
    size = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1")
    if size == 1:
        return False
    per_node = tasks_per_node(_either(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
    node = int(environment.get("SLURM_NODEID", "0"))
    if sum(per_node) != size or node >= len(per_node):
        raise ValueError(
            f"srun has started {size} processes and its list of processes per node gives {sum(per_node)} on "
            f"{len(per_node)} node(s): start it by srun with --ntasks-per-node, or by torchrun."
        )
    job = int(environment.get("SLURM_JOB_ID", "0"))
    environment.update(
        RANK=environment["SLURM_PROCID"],
        WORLD_SIZE=str(size),
        LOCAL_RANK=environment.get("SLURM_LOCALID", "0"),
        LOCAL_WORLD_SIZE=str(per_node[node]),
        GROUP_RANK=str(node),
    )
    environment.setdefault("MASTER_ADDR", first_host(_either(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")))
    environment.setdefault("MASTER_PORT", str(15000 + (job * 16 + int(step)) % 15000))
    if cores := environment.get("SLURM_CPUS_PER_TASK"):
        environment.setdefault("OMP_NUM_THREADS", cores)
    return True


def tasks_per_node(text: str) -> list[int]:
    """Returns the number of processes on every node.

    Args:
        text: As SLURM writes it.

    Example:
        >>> tasks_per_node("2(x3),1")
        [2, 2, 2, 1]
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is None:
            raise ValueError(f"SLURM_TASKS_PER_NODE={text!r} is not of the form 2(x3),1.")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def first_host(text: str) -> str:
    """Returns the first host of a list of nodes.

    Args:
        text: As SLURM writes it.

    Example:
        >>> first_host("node[01-03,7],other")
        'node01'
    """
    match = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", text)
    if match is None:
        raise ValueError(f"SLURM_JOB_NODELIST={text!r} names no node.")
    return "".join(part or "" for part in match.groups())


def _either(environment: MutableMapping[str, str], *names: str) -> str:
    for name in names:
        if environment.get(name):
            return environment[name]
    raise ValueError(f"srun has set none of {', '.join(names)}: start it by srun inside a job, or by torchrun.")
