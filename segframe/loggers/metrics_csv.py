"""metrics.csv: every number that a run logs, on disk as soon as it is known."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]

_INTEGERS = ("step", "epoch")
_ENCODING = "utf-8"


class MetricsCsv(Logger):
    """Writes a row per logged step: ``step``, ``epoch``, then keys in the order of their first appearance.

    Metrics of the step of the last row join that row. Numbers have as many digits as it takes to read
    the same float64 back, so equal runs write equal bytes. A call returns with its row in the file.

    Args:
        path: The file.
        resume_step: The step of the checkpoint that a run goes on from: later rows are dropped. None
            starts a new file.

    Raises:
        OSError: From every call that writes, if the disk is full or the file can't be written.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self._resume_step = resume_step
        self._columns: list[str] = []
        self._row: dict[str, str] = {}
        self._offset = self._size = 0
        self._started = False

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """An empty string: a run has one file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run folder holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes the metrics of a step.

        Args:
            metrics: Numbers by key; ``epoch`` has a column of its own.
            step: Optimizer steps so far; None is the step of the last row.

        Raises:
            OSError: If the disk is full or the file can't be written.
        """
        with _named(self.path):
            self._start()
            row = {"step": str(int(self._row.get("step", 0) if step is None else step))}
            row |= {key: _cell(key, value) for key, value in metrics.items() if key != "step"}
            joins = self._row.get("step") == row["step"]
            if joins:
                row = self._row | row
            if new := [key for key in row if key not in self._columns]:
                self._widen(new, row, joins)
            else:
                self._write(row, self._offset if joins else self._size)

    @staticmethod
    @rank_zero_only
    def truncate(path: str | Path, step: int) -> None:
        """Drops the rows after ``step`` and a last line that was torn; a missing file is left missing.

        Args:
            path: A file that this class wrote.
            step: The last step to keep, that of the checkpoint that a run goes on from.

        Raises:
            OSError: If the file can't be written.
            ValueError: If the file is no metrics.csv.
        """
        file = Path(path)
        if not file.exists():
            return
        columns, rows = _read(file)
        with _named(file):
            _replace(file, _text([columns, *(r for r in rows if int(r[0]) <= step)] if columns else []))

    def _start(self) -> None:
        """Opens the file at the first call; later calls only look whether somebody else has changed it."""
        if self._started:
            if self.path.stat().st_size != self._size:
                self._load()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._resume_step is None or not self.path.exists():
            _replace(self.path, b"")
        else:
            self.truncate(self.path, self._resume_step)
        self._load()
        self._started = True

    def _load(self) -> None:
        columns, rows = _read(self.path)
        self._columns = columns or list(_INTEGERS)
        self._row = {k: v for k, v in zip(columns, rows[-1], strict=True) if v} if rows else {}
        data = _text([columns, *rows] if columns else [])
        if data != self.path.read_bytes():
            _replace(self.path, data)
        self._size = len(data)
        self._offset = self._size - (len(self._line(self._row)) if rows else 0)

    def _line(self, row: Mapping[str, str]) -> bytes:
        # No cell holds a comma or a quote: all are numbers.
        return (",".join([row.get(key, "") for key in self._columns]) + "\n").encode(_ENCODING)

    def _write(self, row: dict[str, str], offset: int) -> None:
        line = self._line(row)
        if offset == 0:
            line = _text([self._columns]) + line
        before = self._line(self._row) if offset < self._size else b""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            if offset + len(line) < self._size:
                os.ftruncate(descriptor, offset)
            _write_all(descriptor, line, offset)
        except OSError:
            # No torn row stays; the row that was there comes back into its own blocks.
            os.ftruncate(descriptor, offset)
            _write_all(descriptor, before, offset)
            raise
        finally:
            os.close(descriptor)
        self._row, self._size = row, offset + len(line)
        self._offset = self._size - len(self._line(row))

    def _widen(self, new: Iterable[str], row: dict[str, str], joins: bool) -> None:
        """Rewrites the file with further columns; the old one stays until the new one is complete."""
        _, rows = _read(self.path)
        columns = [*self._columns, *new]
        added = [""] * (len(columns) - len(self._columns))
        kept = [cells + added for cells in (rows[:-1] if joins else rows)]
        before = _text([columns, *kept])
        _replace(self.path, data := _text([columns, *kept, [row.get(key, "") for key in columns]]))
        self._columns, self._row = columns, row
        self._offset, self._size = len(before), len(data)


def _cell(key: str, value: Any) -> str:
    """Returns the shortest text that reads back as the same number."""
    return str(int(value)) if key in _INTEGERS or isinstance(value, int) else repr(float(value))


def _text(rows: Iterable[Iterable[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode(_ENCODING)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and the complete rows of a file, without a last line that was torn."""
    data = path.read_bytes()
    rows = list(csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode(_ENCODING))))
    if not rows:
        return [], []
    columns, body = rows[0], rows[1:]
    if tuple(columns[:2]) != _INTEGERS:
        raise ValueError(
            f"{path} does not begin with the columns step,epoch: segframe did not write it; move it away or "
            "choose another run.dir."
        )
    if body and len(body[-1]) != len(columns):
        body.pop()
    for number, cells in enumerate(body, start=2):
        if len(cells) != len(columns) or not cells[0].isdecimal():
            raise ValueError(
                f"{path}, line {number}: {','.join(cells)!r} is no row of {len(columns)} cells that begins "
                "with a step; delete the line, or restore the file as the run wrote it."
            )
    return columns, body


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: the metrics of this step were not written; make room or make the folder "
            "writable, then go on with resume=RUN",
            str(path),
        ) from error
