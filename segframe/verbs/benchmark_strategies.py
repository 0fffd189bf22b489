"""``segframe benchmark strategies``: what each strategy costs and brings: time, memory, traffic.

segframe benchmark strategies [model=A,B] [strategy=A,B] [ranks=N,M] [steps=N] [out=DIR] [WORDS]

Every model runs under every strategy on every number of ranks (single on one, hybrid on what its axes say), each bound
to a core of its own while there are enough. WORDS are those of `segframe train`; keys of one model or strategy stand
behind it with a plus: model=pspnet+encoder=resnet50,segnet strategy=single,hybrid+data=2+spatial=2. The global batch
stays the same (strong scaling). steps=N are timed behind a warm-up; steps=0 counts memory and bytes and times
nothing. out=DIR holds strategies.json and strategies.png; the default is benchmark-strategies. The exit code is 1
if a case failed or a goal was missed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segframe.config.options import ConfigError, nearest
from segframe.config.overrides import name_of
from segframe.verbs.own_words import taken

if TYPE_CHECKING:
    from segframe.cost.case import Case

_OWN = {"model": "pspnet,segnet", "strategy": "single,ddp,fsdp", "ranks": "1,2", "steps": "10", "out": ""}
_OUT = "benchmark-strategies"


def main(words: list[str]) -> int:
    """Measures, prints a table, writes JSON and a picture; returns 1 if a case failed or a goal was missed.

    Args:
        words: The verb's own and those of a training run.

    Raises:
        ConfigError: If the words are wrong.
    """
    from segframe.cost.case import num_cores
    from segframe.cost.plan import plan

    own = _OWN | taken(words, tuple(_OWN))
    others = [word for word in words if name_of(word) not in _OWN]
    ranks = sorted({_number("ranks", text) for text in own["ranks"].split(",")})
    steps = _number("steps", own["steps"], least=0)
    try:
        cases, batch = plan(_listed(own["model"]), _listed(own["strategy"]), ranks, others)
    except ConfigError as error:
        raise _nearest_own(others, error) from None

    from segframe.cost.summary import MEANING, goals, summarise

    started = time.perf_counter()
    rows = summarise(_measured(cases, steps), batch, num_cores())
    met = goals(rows)
    result = {
        **_environment(),
        "words": others,
        "batch": batch,
        "timed_steps": steps,
        "meaning": MEANING,
        "goals": met,
        "cases": rows,
        "wall_s": time.perf_counter() - started,
    }
    _report(result, Path(own["out"] or _OUT))
    return int(any("error" in row for row in rows) or not all(goal["met"] for goal in met))


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, text.strip("[]").replace(" ", "").split(","))))


def _number(key: str, text: str, least: int = 1) -> int:
    text = text.strip("[] ")
    if not text.isdecimal() or int(text) < least:
        example = "1,2,4" if key == "ranks" else "10"
        raise ConfigError(f"{key}={text} is not allowed; allowed: integers >= {least}, such as {key}={example}")
    return int(text)


def _nearest_own(others: Sequence[str], error: ConfigError) -> ConfigError:
    for name in map(name_of, others):
        guess = nearest(name, _OWN)
        if guess and f"{name}: there is no such key" in str(error):
            return ConfigError(f"{name}: there is no such key; did you mean `{guess}`? of this verb: {', '.join(_OWN)}")
    return error


def _measured(cases: Sequence[Case], steps: int) -> list[dict[str, Any]]:
    """Measures one case after the other, with a bar over the steps of all and a line behind each."""
    from tqdm import tqdm

    from segframe.cost.case import run
    from segframe.cost.length import length_of

    total, found = length_of(steps).total, []
    interval = 0.5 if sys.stderr.isatty() else 20.0
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(
            total=total * len(cases), unit="step", file=sys.stderr, mininterval=interval, miniters=1, ncols=100
        ) as bar,
    ):
        for number, case in enumerate(cases):
            bar.set_description(str(case))
            place, begun = Path(folder) / str(number), time.perf_counter()
            place.mkdir()

            def at_step(step: int, before: int = number * total) -> None:
                bar.update(before + step - bar.n)
                if time.time() - bar.last_print_t >= interval:  # also while ranks start, or a step takes long
                    bar.refresh()
                    bar.last_print_t = time.time()

            found.append(run(case, steps, place, at_step))
            bar.update((number + 1) * total - bar.n)
            told = f"failed: {found[-1]['error']}" if "error" in found[-1] else "measured"
            bar.write(f"{case}: {told} ({time.perf_counter() - begun:.0f} s)", file=sys.stderr)
    return found


def _environment() -> dict[str, Any]:
    """Returns what the numbers depend on beside the words."""
    import torch

    from segframe import runfolder
    from segframe.cost.case import num_cores

    on_cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
        "backend": "nccl" if on_cuda else "gloo",
        "cuda": "measured" if on_cuda else "not run: there is no CUDA device here",
        "cores": num_cores(),
        "threads_per_rank": 1,
        "versions": runfolder.versions(),
    }


def _report(result: dict[str, Any], out: Path) -> None:
    """Prints the table and the goals, and writes the files."""
    from segframe import runfolder
    from segframe.cost.table import show
    from segframe.figures.strategy_costs import strategy_costs

    out.mkdir(parents=True, exist_ok=True)
    runfolder.write_json(out / "strategies.json", result)
    show(result)
    written = [out / "strategies.json"]
    if any("error" not in row for row in result["cases"]):
        written.append(out / "strategies.png")
        strategy_costs(result, written[-1])
    print(f"written to {' and '.join(map(str, written))}")
