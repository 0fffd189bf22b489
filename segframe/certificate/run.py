"""A strategy on N ranks and one process alone on the same data, and what the two have in common."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from segframe.certificate import rank
from segframe.certificate.progress import under_way
from segframe.certificate.report import Report
from segframe.config.options import ConfigError
from segframe.config.overrides import last_wins, name_of

PRECISIONS = {"fp64": "64-true", "fp32": "32-true"}
"""``trainer.precision`` of each column."""

TOLERANCES = {"fp64": 1e-9, "fp32": 1e-5}
"""Relative differences that rounding explains, in fp32 over three steps."""

NUM_STEPS = 3

RECIPE = "experiment=certificate"
"""What is run where the user's words leave it open."""

# What a comparison has no use for, or what would take it elsewhere.
_FORCED = (
    "check=none",
    "logger=csv",
    "callbacks.checkpoints=null",
    "callbacks.training_log=null",
    "callbacks.progress_bar=null",
    "callbacks.early_stopping.patience=null",
    "trainer.check_val_every_n_epoch=1000000",
    "trainer.limit_val_batches=1.0",
    "trainer.profiler=null",
    "trainer.auto_batch=false",
)
_REFERENCE = ("strategy=single", "trainer.devices=1")


class RankError(RuntimeError):
    """A rank ended before the comparison; the message is that rank's.

    Attributes:
        code: What the rank ended with.
        is_refusal: Whether the strategy would not begin with what it was asked for; anything else is a failure.
    """

    def __init__(self, message: str, code: int, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.code, self.is_refusal = code, is_refusal


def check(words: Sequence[str], num_ranks: int) -> None:
    """Checks what can be checked of words without starting anything.

    Args:
        words: As for ``certify``.
        num_ranks: As for ``certify``.

    Raises:
        ConfigError: If the words are not right.
    """
    _checked(*_both(words, num_ranks, NUM_STEPS), num_ranks)


def certify(
    words: Sequence[str],
    num_ranks: int,
    prepare: Callable[[], object] | None = None,
    precisions: Sequence[str] = ("fp64", "fp32"),
    *,
    num_steps: int = NUM_STEPS,
    tolerances: Mapping[str, float] = TOLERANCES,
    reference_dir: Path | None = None,
) -> Report:
    """Compares the run that words describe with the same run in one process.

    Args:
        words: As of ``segframe train``; they name the strategy.
        num_ranks: Processes of the strategy's run.
        prepare: A function of a module, called in every rank of the strategy's run before it is assembled;
            tests break things with it.
        precisions: Of ``PRECISIONS``.
        num_steps: Optimizer steps.
        tolerances: By precision.
        reference_dir: Keeps the records of runs in one process for later calls with equal words; None keeps none.

    Raises:
        ConfigError: If the words are not right.
        RankError: If a rank ended before there was something to compare.
    """
    own, alone = _both(words, num_ranks, num_steps)
    title = _checked(own, alone, num_ranks)
    chosen = {name: PRECISIONS[name] for name in precisions}
    limits = {name: tolerances[name] for name in precisions}
    report = Report(title, own, num_ranks)
    with tempfile.TemporaryDirectory(prefix="segframe-verify-") as temporary:
        reference = (reference_dir or Path(temporary)) / f"single-{_digest(alone, num_steps, limits)}"
        team = Path(temporary) / "team"
        jobs = [("one process", rank.Task(alone, reference, chosen, limits, num_steps), 1)]
        if all(_is_recorded(reference / name) for name in chosen):
            jobs.clear()
        jobs.append((f"{num_ranks} ranks", rank.Task(own, team, chosen, limits, num_steps, prepare), num_ranks))
        runs = [(f"{name}, {precision}", task.folder / precision) for name, task, _ in jobs for precision in chosen]
        with under_way(runs, _ticks(num_steps)):
            for name, task, size in jobs:
                report.seconds[name] = _run(name, task, size)
        _judge(report, reference, team, limits, num_steps)
    return report


def _both(words: Sequence[str], num_ranks: int, num_steps: int) -> tuple[list[str], list[str]]:
    """Returns the words of the strategy's run and of the run in one process."""
    kept = [word for word in words if name_of(word) not in ("trainer.precision", "run.dir", "trainer.max_steps")]
    kept = [*_recipe(kept), *kept, *_FORCED, f"trainer.max_steps={num_steps}"]
    own = last_wins([*kept, f"trainer.devices={num_ranks}"])
    alone = last_wins([*(w for w in kept if not name_of(w).startswith("strategy")), *_REFERENCE])
    return own, alone


def _recipe(words: Sequence[str]) -> list[str]:
    """Returns what is run where words leave it open: class weights for a loss that takes some."""
    from segframe.config.compose import compose

    takes_weights = "class_weights" in compose([RECIPE, *words]).loss
    return [RECIPE, "loss.class_weights=median_frequency"] if takes_weights else [RECIPE]


def _checked(own: Sequence[str], alone: Sequence[str], num_ranks: int) -> str:
    """Composes both runs before anything is started; returns what is compared with what."""
    from segframe.config.compose import compose, resolved

    values, others = resolved(compose(own)), resolved(compose(alone))
    if values["strategy"]["_target_"] == others["strategy"]["_target_"]:
        raise ConfigError(
            "verify compares a strategy with strategy=single, and that is what it was given; name another, such as "
            "strategy=ddp."
        )
    if values["trainer"]["num_nodes"] != 1:
        raise ConfigError(
            f"trainer.num_nodes={values['trainer']['num_nodes']}: verify starts all its processes on this machine; "
            f"leave it out and give trainer.devices={num_ranks * values['trainer']['num_nodes']}."
        )
    model, target = values["model"]["_target_"], values["strategy"]["_target_"]
    model = values["model"].get("architecture", model.rpartition(".")[2])
    name = next((w.partition("=")[2] for w in own if name_of(w) == "strategy"), target.rpartition(".")[2])
    name += "".join(f" {w.partition('.')[2]}" for w in own if name_of(w).startswith("strategy."))
    return (
        f"strategy={name} on {num_ranks} ranks against one process: {model}, {values['trainer']['accelerator']}, "
        f"batches of {values['data']['batch_size']} in {values['trainer']['accumulate_grad_batches']} parts"
    )


def _digest(words: Sequence[str], num_steps: int, tolerances: Mapping[str, float]) -> str:
    content = json.dumps([sorted(words), num_steps, sorted(tolerances.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _is_recorded(folder: Path) -> bool:
    from segframe.certificate.record import Record

    return Record.is_whole(folder)


def _ticks(num_steps: int) -> int:
    """What a run adds to the bar: that it starts, its steps, and that it is written."""
    return num_steps + 2


def _run(name: str, task: rank.Task, num_ranks: int) -> float:
    """Runs all precisions on some ranks; returns seconds."""
    from segframe.launch import start_ranks

    started = time.perf_counter()
    task.folder.mkdir(parents=True, exist_ok=True)
    team = start_ranks(rank.run, (task,), num_ranks, log_dir=task.folder)
    try:
        codes = team.wait()
    except BaseException:
        team.kill()
        raise
    if any(codes):
        raise _error(task, name, team.first_failed, team.exit_code)
    return time.perf_counter() - started


def _error(task: rank.Task, name: str, first: int | None, code: int) -> RankError:
    """Returns why the ranks ended: the word of the first that failed by itself."""
    found = []
    for file in sorted(task.folder.glob(rank.ERROR_FILE.format(rank="*"))):
        content = json.loads(file.read_text(encoding="utf-8"))
        number = int(file.stem.partition("-")[2])
        found.append((content["is_another_ranks"], number != first, number, content))
    if found:
        _, _, number, content = min(found, key=lambda x: x[:3])
        told = f"rank {number} of the run with {name}: {content['told']}"
        return RankError(told, content["code"], content["is_refusal"])
    log = task.folder / f"rank-{first}.log"
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() if log.is_file() else ""
    return RankError(f"rank {first} of the run with {name} ended with code {code} and said:\n{tail}", code or 1)


def _judge(report: Report, reference: Path, team: Path, limits: Mapping[str, float], num_steps: int) -> None:
    from segframe.certificate.compare import MOST_ROUNDING, ROUNDING_FACTOR, compare
    from segframe.certificate.guards import look
    from segframe.certificate.record import Record

    for precision, tolerance in limits.items():
        own, others = Record(reference / precision), Record(team / precision)
        exact = Record(reference / "fp64") if precision != "fp64" and "fp64" in limits else None
        report.rows += compare(own, others, precision, tolerance, exact)
        report.guards += look(own, others, precision, report.num_ranks, num_steps)
    widened = [r.name for r in report.rows if not r.unit and r.passed is not None and r.tolerance > limits[r.precision]]
    if widened:
        report.notes.append(
            f"{', '.join(widened)}: one process in fp32 is about as far from its own fp64 run, because the "
            "derivative of ReLU and the choice of max-pooling jump where rounding turns an order over; "
            f"{ROUNDING_FACTOR:g} times that distance is allowed"
        )
    unjudged = [r.name for r in report.rows if r.passed is None and math.isfinite(r.difference)]
    if unjudged:
        report.notes.append(
            f"{', '.join(unjudged)}: not judged in fp32, where rounding alone moves them by more than "
            f"{MOST_ROUNDING / ROUNDING_FACTOR:.1%} in one process; fp64 decides"
        )
