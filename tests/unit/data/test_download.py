import importlib
import pkgutil

import pytest

import segframe.data
from segframe.data.download import Download, DownloadError, gib, require_space


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (5 * 2**40, "5120.0 GiB")]
)
def test_sizes_are_readable(count, text):
    assert gib(count) == text


def test_room_is_asked_for_first(tmp_path):
    assert "needs 1.0 KiB for the archive and 2.0 KiB unpacked" in require_space(tmp_path, 1024, 2048)
    with pytest.raises(
        DownloadError, match=r"too full: needs 1.0 KiB .* and 1048576.0 GiB unpacked; .* free in .*root="
    ):
        require_space(tmp_path, 1024, 2**50)


def test_every_source_is_complete():
    modules = [f"segframe.data.{module.name}" for module in pkgutil.iter_modules(segframe.data.__path__)]
    sources = [getattr(importlib.import_module(name), "SOURCE", None) for name in modules]
    assert sum(source is not None for source in sources) >= 4
    for source in sources:
        if isinstance(source, Download):
            assert len(source.checksum) == {"md5": 32, "sha1": 40, "sha256": 64}[source.algorithm]
            assert source.name.rpartition(".")[2] in ("tar", "zip", "gz")
            assert 10**8 < source.size < source.unpacked < 10**10
