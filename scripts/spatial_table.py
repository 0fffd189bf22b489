"""Finds out which nets run exactly on split rows, and writes docs/spatial_models.md.

python scripts/spatial_table.py [ranks=2] [models=NAME,...] [encoders=NAME,...] [out=FILE.md] [only=missing]

Every model of conf/model is built with every encoder that it takes, with random weights everywhere, and a training step
and an evaluation on several gloo processes are compared with one process, in fp64.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from segframe.parallel.rows import Rows, RowTensor
from segframe.parallel.rows.batch_norm import share_over_rows
from segframe.parallel.rows.trial import trial

ROOT = Path(__file__).parents[1]
ENCODERS = [
    "resnet18", "resnet50", "resnext50_32x4d", "se_resnet50", "vgg16_bn", "vgg16", "densenet121", "mobilenet_v2",
    "efficientnet-b0", "tu-convnext_tiny", "tu-mobilenetv3_large_100", "tu-efficientnet_b0", "mit_b0",
]  # fmt: skip
_SIZE = (90, 50)
_SIZES = {
    "pan": (390, 50),  # its deepest map has a row for 128 rows of the image
    "mit_b0": (390, 200),  # its kernels are as large as smaller maps; it is refused at any size
}
_TOLERANCE = 1e-9
_CLASSES = 5


def main(words: list[str]) -> int:
    """Runs the table; returns 1 if a net that was not refused is not exact.

    Args:
        words: The command line.
    """
    given = dict(word.split("=", 1) for word in words)
    num_ranks = int(given.get("ranks", 2))
    names = given["models"].split(",") if "models" in given else sorted(f.stem for f in _configs())
    encoders = given["encoders"].split(",") if "encoders" in given else ENCODERS
    cases = [(name, encoder) for encoder in encoders for name in names if _takes_encoder(name)]
    cases += [(name, "") for name in names if not _takes_encoder(name)]
    out = Path(given.get("out", ROOT / "docs/spatial_models.md"))
    if given.get("only") == "missing":
        cases = [case for case in cases if case not in _kept(out)]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": "1"}
    mp.spawn(_rank, (num_ranks, cases, out), nprocs=num_ranks)  # type: ignore[attr-defined, no-untyped-call]
    results = _kept(out)
    wrong = [case for case, row in results.items() if row["result"].startswith("WRONG")]
    print(f"{len(results) - len(wrong)} of {len(results)} are exact or refused; wrote {out}")
    return 1 if wrong else 0


def _kept(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns what is known by now, from the file beside the page."""
    file = out.with_suffix(".json")
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {(row["model"], row["encoder"]): row for row in rows}


def _keep(out: Path, row: dict[str, Any]) -> None:
    """Adds a result and writes the page anew, so that a run that is cut short leaves what it knows."""
    results = _kept(out) | {(row["model"], row["encoder"]): row}
    out.with_suffix(".json").write_text(json.dumps(list(results.values()), indent=1) + "\n", encoding="utf-8")
    out.write_text(_page({case: row["result"] for case, row in results.items()}), encoding="utf-8")


def _configs() -> list[Path]:
    return list((ROOT / "conf/model").glob("*.yaml"))


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / f"conf/model/{name}.yaml").read_text(encoding="utf-8"))
    return content


def _takes_encoder(name: str) -> bool:
    return "encoder" in _config(name) and name != "dpt"  # which takes Vision Transformers alone


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def build(name: str, encoder: str) -> nn.Module:
    """Builds a model of conf/model with random values everywhere, so that nothing is the same all over a map.

    Args:
        name: The file's name.
        encoder: The encoder; the file's own if empty.
    """
    options = _config(name) | {"num_classes": _CLASSES} | ({"encoder": encoder} if encoder else {})
    module, _, kind = options.pop("_target_").rpartition(".")
    torch.manual_seed(0)
    net: nn.Module = getattr(importlib.import_module(module), kind)(**options)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point() and tensor.dim() < 2:
            tensor.data.add_(0.2 * torch.rand_like(tensor))
    return net.double()


def difference(net: nn.Module, height: int, width: int, rows: Rows, of_images: Any) -> float:
    """Returns the largest difference of a training step and an evaluation on split rows from one process (collective).

    Gradients of weights and of the image, running statistics and maps, each by the largest value of its kind.

    Args:
        net: A net in fp64; it is changed.
        height: Rows of two random images.
        width: Their columns.
        rows: The ranks; all there are.
        of_images: The process group of this rank alone.

    Raises:
        ValueError: If the maps or the gradients of one process are constant, so that a comparison would show nothing.
    """
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(1)
    image = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = _results(net, image.clone().requires_grad_(), None) if rows.rank == 0 else {}
    net.load_state_dict(state)
    share_over_rows(net, rows.group, of_images)
    got = _results(net, image.clone().requires_grad_(), rows)
    if rows.rank:
        return 0.0
    for kind in ("map", "evaluated", "gradient of the image"):
        if not float(expected[kind][0].std(dim=(2, 3)).min()) > 1e-9:
            raise ValueError(f"the {kind} is constant, so that a comparison would show nothing")
    return max(_far(got[kind], expected[kind]) for kind in expected)


def _far(got: list[Tensor], expected: list[Tensor]) -> float:
    scale = max(float(x.abs().max()) for x in expected)
    return max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True)) / scale


def _results(net: nn.Module, image: Tensor, rows: Rows | None) -> dict[str, list[Tensor]]:
    """Returns what a training step and an evaluation give: on split rows, put together or summed over ranks."""
    torch.manual_seed(2)
    given: Any = image if rows is None else RowTensor.of(image, rows)
    maps = _maps(net.train()(given))
    loss = torch.stack([_loss(x) for x in maps]).sum()
    gradients = [*torch.autograd.grad(loss, [image, *net.parameters()])]
    with torch.no_grad():
        evaluated = [_whole(x) for x in _maps(net.eval()(given))]
        whole_maps = [_whole(x) for x in maps]
    if rows is not None:
        for gradient in gradients:
            dist.all_reduce(gradient)
    buffers = [b.double() for b in net.buffers()]
    kinds = {"map": whole_maps, "evaluated": evaluated, "gradient of the image": gradients[:1], "gradients": gradients}
    return kinds | ({"buffers": buffers} if buffers else {})


def _maps(output: Any) -> list[Any]:
    return [output.logits, *output.auxiliary]


def _whole(x: Any) -> Tensor:
    whole: Tensor = x.whole() if isinstance(x, RowTensor) else x
    return whole.detach()


def _loss(x: Any) -> Tensor:
    """Returns a sum over pixels in which each has a weight of its own."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(tuple(x.shape), dtype=torch.float64, generator=generator)
    own = RowTensor.of(weights, x.rows).local if isinstance(x, RowTensor) else weights
    local = x.local if isinstance(x, RowTensor) else x
    return (own * local.sin()).sum()


def _rank(rank: int, num_ranks: int, cases: list[tuple[str, str]], out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=num_ranks, timeout=timedelta(minutes=5))
    alone = [dist.new_group([r]) for r in range(num_ranks)][rank]
    for name, encoder in tqdm(cases, disable=rank > 0, desc="nets", unit="net"):
        result = _outcome(name, encoder, Rows(rank, num_ranks), alone)
        if rank == 0:
            _keep(out, {"model": name, "encoder": encoder, "ranks": num_ranks, "result": result})
            tqdm.write(f"{name} {encoder}: {result}", file=sys.stderr)
    dist.destroy_process_group()


def _outcome(name: str, encoder: str, rows: Rows, alone: Any) -> str:
    try:
        net = build(name, encoder)
    except ValueError:
        return "-"
    size = _SIZES.get(name) or _SIZES.get(encoder, _SIZE)
    try:
        largest = difference(net, *size, rows, alone)
    except ValueError as error:
        return _reason(name, encoder, size, rows.size) or f"WRONG {error}"
    return f"{largest:.0e}" if largest < _TOLERANCE else f"WRONG {largest:.0e}"


def _reason(name: str, encoder: str, size: tuple[int, int], num_ranks: int) -> str | None:
    """Returns which operation of which module the trial before training refuses."""
    try:
        trial(build(name, encoder), *size, num_ranks)
    except ValueError as error:
        match = re.search(r"ranks in (\S+ \(\w+\)): (?:torch\.)?(\S+)", str(error))
        return f"`{match[2]}` in {match[1]}" if match else f"WRONG {error}"
    return None


def _page(results: dict[tuple[str, str], str]) -> str:
    names = sorted({name for name, encoder in results if encoder})
    encoders = [e for e in ENCODERS if any(encoder == e for _, encoder in results)]
    notes: list[str] = []
    table = [["", *names]] + [[f"`{e}`", *(_cell(results.get((n, e), ""), notes) for n in names)] for e in encoders]
    alone = [["", "exact to"]] + [[f"`{n}`", _cell(result, notes)] for (n, e), result in results.items() if not e]
    listed = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    return _PAGE.format(rows=_SIZE[0], columns=_SIZE[1], table=_markdown(table), alone=_markdown(alone), notes=listed)


def _cell(result: str, notes: list[str]) -> str:
    if not result.startswith(("`", "WRONG")):
        return result
    if result not in notes:
        notes.append(result)
    return f"refused ({notes.index(result) + 1})"


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


_PAGE = """# Which models run on split rows

`strategy=spatial` computes what one process computes, or refuses before training. This page shows which is the case for
every model of `conf/model` with usual encoders. Written by `python scripts/spatial_table.py`, which keeps what it knows
in [spatial_models.json](spatial_models.json); `models=NAME encoders=NAME` run some nets alone, `only=missing` the rest.

A number says how far two processes are from one in fp64, by the largest value of its kind: a training step's maps,
the gradients of all weights and of the image, BatchNorm's running statistics, and the maps in evaluation, with dropout
as configured. Images have {rows} x {columns} pixels (PAN: 390 x 50), so that ranks have different numbers of rows;
weights are random. "refused (n)" names the operation that has no exact form on rows, and the module, below. "-": the
model does not take that encoder; empty: not run yet.

{table}

Without a choice of encoders:

{alone}

{notes}

What looks at all positions of a map at once (attention) would need all rows on every rank. Use `strategy=ddp`, `fsdp`
or `model_sharded` for these models. The deepest map needs a row for each rank: with stride 32, 32 image rows per rank;
PAN pools to stride 128 and needs 128. PAN's deepest maps are so small that BatchNorm magnifies rounding: in one process
too, the last digit of the image moves its gradients by up to 4e-10.
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
