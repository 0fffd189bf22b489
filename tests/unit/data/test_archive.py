import io
import stat
import tarfile
import zipfile
from dataclasses import replace

import pytest

from segframe.data.archive import unpack, verify
from segframe.data.download import Download, DownloadError

SOURCE = Download("http://x/a%20b.tar", "md5", "5d41402abc4b2a76b9719d911017c592", 5, 5, "set")


def tar_of(path, *members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def left(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_a_checksum_is_compared(tmp_path):
    assert SOURCE.name == "a b.tar"
    file = tmp_path / "file"
    file.write_bytes(b"hello")
    verify(file, SOURCE)
    file.write_bytes(b"Hello")
    with pytest.raises(DownloadError, match=r"file \(5 bytes\).*expected md5 5d41402abc.*, got [0-9a-f]{32}\.$"):
        verify(file, SOURCE)
    file.write_bytes(b"\n<html>please log in")
    with pytest.raises(DownloadError, match=r"expected sha1 00, got .* a web page; was there a login"):
        verify(file, replace(SOURCE, algorithm="sha1", checksum="00"))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_the_folder_that_is_wanted_is_unpacked(tmp_path, kind):
    members = (("deep/set/a.txt", b"a"), ("deep/set/b/c.txt", b"c"), ("__MACOSX/x", b""))
    path = tmp_path / f"archive.{kind}"
    path = zip_of(path, *members) if kind == "zip" else tar_of(path, *members, mode="w:gz" if "gz" in kind else "w")
    root = tmp_path / "root"
    assert unpack(path, root, "deep/set") == root / "deep/set"
    assert left(root) == ["deep", "deep/set", "deep/set/a.txt", "deep/set/b", "deep/set/b/c.txt"]
    assert (root / "deep/set/b/c.txt").read_bytes() == b"c"
    with pytest.raises(DownloadError, match="set is there already; move it away"):
        unpack(path, root, "deep/set")


def test_what_a_killed_call_left_is_removed(tmp_path):
    root = tmp_path / "root"
    (root / ".archive.tar.unpacking/set").mkdir(parents=True)
    (root / ".archive.tar.unpacking/set/half.txt").write_text("ha")
    unpack(tar_of(tmp_path / "archive.tar", ("set/a.txt", b"a")), root, "set")
    assert left(root) == ["set", "set/a.txt"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../evil.txt", b"!"),
        ("set/../../evil.txt", b"!"),
        ("/tmp/segframe-evil.txt", b"!"),
        ("C:\\evil.txt", b"!"),
        ("set\\..\\..\\evil.txt", b"!"),
        ("set/link", link("set/link", "/etc")),
        ("set/link", link("set/link", "../../outside")),
        ("set/hard", link("set/hard", "../../outside", tarfile.LNKTYPE)),
        ("set/device", link("set/device", "", tarfile.CHRTYPE)),
    ],
)
def test_a_member_that_would_land_elsewhere_is_refused(tmp_path, name, content):
    root = tmp_path / "root"
    path = tar_of(tmp_path / "archive.tar", ("set/a.txt", b"a"), (name, content))
    with pytest.raises(DownloadError, match=r"has a member that no data set needs.*Nothing was unpacked"):
        unpack(path, root, "set")
    assert left(root) == []
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/segframe-evil.txt", "C:\\evil.txt", "link"])
def test_the_same_in_a_zip(tmp_path, name):
    root, path = tmp_path / "root", tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/a.txt", "a")
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
        file.writestr(info, "/etc")
    with pytest.raises(DownloadError, match="has a member that no data set needs"):
        unpack(path, root, "set")
    assert left(root) == []


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "text"])
def test_a_damaged_archive_leaves_nothing(tmp_path, kind):
    path, root = tmp_path / "archive", tmp_path / "root"
    members = [(f"set/{number}.txt", bytes(range(256)) * 40) for number in range(4)]
    if kind == "text":
        path.write_text("no archive")
    elif kind == "zip":
        content = bytearray(zip_of(path, *members).read_bytes())
        content[60:80] = bytes(20)
        path.write_bytes(content)
    else:
        content = tar_of(path, *members, mode="w:gz" if "gz" in kind else "w").read_bytes()
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DownloadError, match=r"archive is damaged \(.*Delete it and call again"):
        unpack(path, root, "set")
    assert left(root) == []


def test_another_archive_says_what_it_holds(tmp_path):
    path = tar_of(tmp_path / "archive.tar", ("VOC2007/a.txt", b"a"))
    with pytest.raises(DownloadError, match="has no folder VOC2012; it holds VOC2007"):
        unpack(path, tmp_path / "root", "VOC2012")
    assert left(tmp_path / "root") == []
