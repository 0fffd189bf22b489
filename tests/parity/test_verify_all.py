"""The matrix of certificates, on one model and the smallest data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import verify_all

PAGE = "before\n<!-- table -->\nold\n<!-- end of table -->\nbehind\n"


@pytest.fixture
def matrix(tmp_path, alone, capsys):
    """Runs the script with words; returns (exit code, what it said on stderr)."""
    (tmp_path / "page.md").write_text(PAGE)

    def run(*words: str) -> tuple[int, str]:
        code = verify_all.main([*words, "models=tiny", f"out={tmp_path / 'rows.json'}", f"docs={tmp_path / 'page.md'}"])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ranks=2 strategies=ddp model.widht=8", "did you mean `model.width`"),
        ("ranks=2 strategies=dpp", "did you mean `ddp`"),
        ("ranks=two", "ranks=two is not allowed; allowed: integers >= 2"),
        ("ranks=2 strategies=hybrid", "ranks=2 makes up no grid of hybrid"),
        ("spatial", "spatial is no KEY=VALUE"),
        ("ranks=2 precisions=bf16", "precisions=bf16 is not allowed; allowed: fp64, fp32"),
    ],
)
def test_wrong_words_end_it_before_anything_runs(matrix, tmp_path, words, told):
    code, said = matrix(*words.split())
    assert code == 2
    assert told in said
    assert not (tmp_path / "rows.json").exists()
    assert (tmp_path / "page.md").read_text() == PAGE


@pytest.mark.xdist_group("certificate broken")
def test_a_matrix_goes_on_with_what_is_missing(matrix, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["ranks=2", "loss=lovasz", "trainer.gradient_clip_val=0.01"]
    file, page = tmp_path / "rows.json", tmp_path / "page.md"
    assert matrix(*words, "strategies=ddp")[0] == 0
    first = json.loads(file.read_text())["rows"]
    assert matrix(*words, "strategies=ddp,spatial")[0] == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["strategy"], row["verdict"]) for row in rows] == [("ddp", "PASS"), ("spatial", "refused")]
    assert rows[0] == first[0]  # seconds and all
    lines = [line for line in page.read_text().splitlines() if line.startswith("| tiny")]
    assert lines[0].endswith("| PASS |")
    assert "refused: rank" in lines[1]
    assert "looks at whole images" in lines[1]
    assert page.read_text().partition("<!-- table -->")[0] == "before\n"
    assert page.read_text().endswith("-->\nbehind\n")
    # A row of a run that was killed, and one of other code, are made again.
    killed = first[0] | {"verdict": "FAIL", "why": "rank 1 was killed"}
    del killed["report"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rows": [killed, rows[1] | {"code": "another"}]}))
    assert [row["strategy"] for row in _kept(words, tmp_path)] == []
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rows": rows}))
    assert _kept(words, tmp_path) == rows
    assert _kept(words[:-1], tmp_path) == []


def _kept(words: list[str], folder: Path) -> list[dict]:
    return verify_all._kept(verify_all._Matrix([*words, f"out={folder / 'rows.json'}", f"docs={folder / 'page.md'}"]))
