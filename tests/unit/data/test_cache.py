"""Caches hold what the data set gave, whole or not at all, whoever builds them and whatever stops it."""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.random  # numpy does so at its first use, and the compiled import swallows one Ctrl-C in twelve
import pytest
import torch

from segframe.contracts import FileBacked
from segframe.data import cache
from segframe.data.cache import CachedDataset, CachedFiles, cached, original
from segframe.data.cache_build import PIXELS, NoRoomError, offsets
from segframe.data.camvid import CamVid, write_fake
from segframe.data.decode import UnreadableError

SHAPES = ((7, 5), (12, 9), (64, 80))


class Patterns:
    """Pairs of several sizes, without files, which tell when they are decoded."""

    classes = ("a", "b", "c")
    palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))

    def __init__(self, count=5, log=None, delay_s=0.0):
        self.count, self.log, self.delay_s = count, log, delay_s

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.delay_s)
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{index}\n")
        rng = np.random.default_rng(index)
        height, width = self.size(index)
        image = torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(2, 0, 1)
        return image, torch.from_numpy(rng.integers(0, 3, (height, width), dtype=np.uint8))

    def size(self, index):
        return SHAPES[index % len(SHAPES)]

    def name(self, index):
        return f"pattern-{index}"


class Unsized(Patterns):
    size = None

    def __getitem__(self, index):
        return Patterns()[index]


def one(dataset, folder, mode="disk", identity=None, **options):
    (made,) = cached([(dataset, identity or {"name": "x"})], mode, folder, **options)
    return made


def assert_equal(first, second):
    assert len(first) == len(second)
    for index in range(len(first)):
        for ours, theirs in zip(first[index], second[index], strict=True):
            assert ours.dtype == theirs.dtype == torch.uint8
            assert torch.equal(ours, theirs)
        assert first.name(index) == second.name(index)


def pixel_files(folder):
    return sorted(folder.rglob(PIXELS))


def leftovers(folder):
    return sorted(str(p) for p in folder.rglob("*") if p.name.startswith(("building-", ".removed")))


@pytest.fixture
def camvid_fake(tmp_path):
    root = tmp_path / "camvid"
    write_fake(root)
    return root


def test_none_is_the_data_set_itself(tmp_path):
    dataset = Patterns()
    assert one(dataset, tmp_path, "none") is dataset
    assert original(dataset) is dataset
    assert list(tmp_path.iterdir()) == []


def test_gives_the_same_pairs_and_facts(tmp_path, capsys):
    dataset = Patterns(log=tmp_path / "log")
    made = one(dataset, tmp_path / "cache")
    said = capsys.readouterr().err
    assert f"caching 5 images: 0.0 MiB in {tmp_path / 'cache/pixels'}, " in said
    assert " free" in said
    assert sorted((tmp_path / "log").read_text().split()) == list("01234")
    assert (made.classes, made.palette) == (dataset.classes, dataset.palette)
    assert [made.size(index) for index in range(5)] == [dataset.size(index) for index in range(5)]
    assert original(made) is dataset
    assert not isinstance(made, FileBacked)
    (tmp_path / "log").unlink()
    again = one(dataset, tmp_path / "cache")
    assert_equal(made, Patterns())
    assert_equal(again, Patterns())
    assert not (tmp_path / "log").exists()
    assert capsys.readouterr().err == ""


def test_pairs_in_parallel_and_without_sizes(tmp_path):
    assert_equal(one(Patterns(70), tmp_path), Patterns(70))
    assert_equal(one(Unsized(70), tmp_path, identity={"name": "y"}), Patterns(70))


def test_an_index_beyond_the_end_ends_a_loop(tmp_path):
    made = one(Patterns(), tmp_path)
    assert torch.equal(made[-1][0], Patterns()[4][0])
    assert len(list(made)) == 5
    with pytest.raises(IndexError):
        made[5]


def test_what_is_written_into_a_pair_stays_there(tmp_path):
    made = one(Patterns(), tmp_path)
    image, mask = made[0]
    image.fill_(0)
    mask.fill_(0)
    assert_equal(made, Patterns())


def test_files_stay_files(tmp_path, camvid_fake):
    dataset = CamVid(str(camvid_fake), "train")
    made = one(dataset, tmp_path / "cache")
    assert isinstance(made, CachedFiles)
    assert isinstance(made, FileBacked)
    assert made.files(1) == dataset.files(1)
    assert np.array_equal(made.mask(1), dataset.mask(1))
    assert_equal(made, dataset)


def test_tells_which_files_have_changed_and_decodes_anew(tmp_path, camvid_fake, capsys):
    cache = tmp_path / "cache"
    one(CamVid(str(camvid_fake), "train"), cache).close()
    (before,) = pixel_files(cache)
    (changed, *_) = sorted((camvid_fake / "train").iterdir())
    other = sorted((camvid_fake / "train").iterdir())[1]
    shutil.copy(other, changed)
    capsys.readouterr()
    made = one(CamVid(str(camvid_fake), "train"), cache)
    said = capsys.readouterr().err
    assert "1 of 8 files have changed" in said
    assert changed.name in said
    assert "caching 4 images" in said
    assert_equal(made, CamVid(str(camvid_fake), "train"))
    assert pixel_files(cache) != [before]
    assert len(pixel_files(cache)) == 1


def test_a_cache_in_use_outlives_a_change_of_its_files(tmp_path, camvid_fake):
    cache = tmp_path / "cache"
    held = one(CamVid(str(camvid_fake), "train"), cache)
    pairs = [tuple(x.clone() for x in held[index]) for index in range(4)]
    os.utime(sorted((camvid_fake / "train").iterdir())[0], ns=(0, 0))
    one(CamVid(str(camvid_fake), "train"), cache).close()
    assert len(pixel_files(cache)) == 2
    assert all(torch.equal(pairs[index][0], held[index][0]) for index in range(4))
    held.close()
    one(CamVid(str(camvid_fake), "train"), cache).close()
    assert len(pixel_files(cache)) == 1


def test_a_change_of_the_class_is_noticed(tmp_path, capsys, monkeypatch):
    source = "from tests_patterns_base import Patterns\nclass Own(Patterns):\n    shade = {}\n"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tests_patterns_base", sys.modules[__name__])
    module = tmp_path / "own_patterns.py"
    module.write_text(source.format(1))
    import own_patterns

    one(own_patterns.Own(), tmp_path / "cache").close()
    module.write_text(source.format(2))
    one(own_patterns.Own(), tmp_path / "cache").close()
    assert "the code of Own has changed" in capsys.readouterr().err
    assert len(pixel_files(tmp_path / "cache")) == 1


@pytest.mark.parametrize("damage", ["cut", "longer", "no index", "no json", "other json", "no pixels"])
def test_damage_is_noticed_and_mended(tmp_path, capsys, damage):
    one(Patterns(), tmp_path).close()
    (pixels,) = pixel_files(tmp_path)
    index = pixels.with_name("index.json")
    if damage in ("cut", "longer"):
        os.truncate(pixels, pixels.stat().st_size + (4096 if damage == "longer" else -1))
    elif damage == "no json":
        index.write_text(index.read_text()[:-5])
    elif damage == "other json":
        index.write_text(json.dumps({"format": 1, "shapes": [[1, 2]] * 4, "files": []}))
    else:
        (index if damage == "no index" else pixels).unlink()
    made = one(Patterns(), tmp_path)
    assert "is damaged; it is made anew" in capsys.readouterr().err
    assert_equal(made, Patterns())


def test_a_bad_pair_ends_the_build_with_its_own_error(tmp_path, camvid_fake):
    bad = sorted((camvid_fake / "train").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(UnreadableError, match=f"{bad.name}.*truncated"):
        one(CamVid(str(camvid_fake), "train"), tmp_path / "cache")
    assert pixel_files(tmp_path / "cache") == []
    assert leftovers(tmp_path / "cache") == []


class Lying(Patterns):
    def size(self, index):
        return (9, 9) if index == 40 else super().size(index)

    def __getitem__(self, index):
        return Patterns()[index]


def test_a_pair_of_another_size_than_told_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pattern-40: the image is \(3, 12, 9\).*expected \(3, 9, 9\)"):
        one(Lying(60), tmp_path)
    assert pixel_files(tmp_path) == []


def test_a_pickled_data_set_reads_the_same_cache(tmp_path):
    made = one(Patterns(), tmp_path)
    copy = pickle.loads(pickle.dumps(made))
    assert_equal(copy, made)
    del copy
    gc.collect()
    assert_equal(made, Patterns())


def test_a_removed_cache_is_told(tmp_path):
    made = one(Patterns(), tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"was removed while the run read from it.*resume=RUN"):
        made[0]


def test_no_files_stay_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    made = one(Patterns(), tmp_path)
    for index in range(5):
        made[index]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before + 1  # its mark as a user
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_small_pairs_that_are_held_need_no_file_each(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    made = one(Patterns(), tmp_path)
    held = [made[index % 5] for index in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert all(torch.equal(held[index][0], Patterns()[index % 5][0]) for index in range(50))


@pytest.mark.parametrize("granule", [mmap.ALLOCATIONGRANULARITY, 2**16])
def test_pairs_are_mapped_where_maps_may_begin(tmp_path, monkeypatch, granule):
    # Of 4 KiB, 16 KiB (Apple) or 64 KiB (some of ARM and POWER).
    monkeypatch.setattr(cache, "_GRANULE", granule)
    monkeypatch.setattr(cache, "_READ_WHOLE", 0)
    assert_equal(one(Patterns(), tmp_path), Patterns())


def test_a_file_that_was_cut_is_told(tmp_path):
    made = one(Patterns(), tmp_path)
    os.truncate(pixel_files(tmp_path)[0], 4096)
    with pytest.raises(ValueError, match="was cut short"):
        made[2]


# Several processes.

fork = multiprocessing.get_context("fork")


def on_one_thread(function, args):
    torch.set_num_threads(1)  # a fork has none of the threads that the first process may have started
    function(*args)


def in_process(function, *args):
    process = fork.Process(target=on_one_thread, args=(function, args))
    process.start()
    return process


def build_and_compare(folder, log, output, count, delay_s):
    with output.open("w", buffering=1) as file, contextlib.redirect_stderr(file):
        assert_equal(one(Patterns(count, log, delay_s), folder), Patterns(count))


def test_of_several_builders_one_decodes_and_the_others_wait(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "cache"
    outputs = [tmp_path / f"output-{number}" for number in range(3)]
    processes = [in_process(build_and_compare, folder, log, output, 10, 0.02) for output in outputs]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(map(int, log.read_text().split())) == list(range(10))
    said = [output.read_text() for output in outputs]
    assert sum("caching 10 images" in text for text in said) == 1
    assert sum(f"waiting for process {p.pid} on" in text for text in said for p in processes) >= 1


@pytest.mark.parametrize("count", [8, 64], ids=["alone", "in processes"])
def test_a_killed_build_leaves_nothing_half_read(tmp_path, count):
    folder = tmp_path / "cache"
    for decoded in (0, 1, count // 2, count * 3 // 4):
        log = tmp_path / f"log-{decoded}"
        process = in_process(build_and_compare, folder, log, tmp_path / "output", count, 0.02)
        deadline = time.monotonic() + 20
        while not (log.exists() and len(log.read_text().split()) > decoded) and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert pixel_files(folder)[0].parent.name.startswith("building-")
    began = time.monotonic()
    made = one(Patterns(count), folder)
    assert time.monotonic() - began < 2  # no orphan keeps the lock
    assert_equal(made, Patterns(count))
    assert leftovers(folder) == []


@pytest.mark.parametrize("count", [8, 64], ids=["alone", "in processes"])
def test_ctrl_c_ends_a_build_cleanly(tmp_path, count):
    log, folder = tmp_path / "log", tmp_path / "cache"
    process = in_process(build_and_compare, folder, log, tmp_path / "output", count, 0.05)
    while not log.exists():
        time.sleep(0.005)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 1  # multiprocessing's for any exception
    assert time.monotonic() - began < 5
    assert pixel_files(folder) == []
    assert leftovers(folder) == []


# Room.


def limited(folder, answers):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        one(Patterns(), folder)
    except NoRoomError as error:
        answers.put(str(error))


def test_a_limit_that_only_the_system_knows_is_a_clear_error(tmp_path):
    answers = fork.Queue()
    process = in_process(limited, tmp_path, answers)
    process.join(20)
    assert "has no room for it (File too large)" in answers.get(timeout=60)
    assert pixel_files(tmp_path) == []
    assert leftovers(tmp_path) == []


class Huge(Patterns):
    """Nothing that a test could decode."""

    def size(self, index):
        return 2**20, 2**22

    def __getitem__(self, index):
        raise AssertionError


def test_too_little_room_is_told_before_anything_is_decoded(tmp_path):
    with pytest.raises(NoRoomError, match=r"needs 81920\.0 GiB and .*pixels has .* free; .*dataset\.cache_dir"):
        one(Huge(), tmp_path)
    with pytest.raises(NoRoomError, match=r"cache=ram needs 81920\.0 GiB and .* has .* free; .*--shm-size=81921g"):
        one(Huge(), None, "ram", shared_memory=tmp_path)


def test_all_that_is_needed_must_fit_before_the_first_is_made(tmp_path):
    with pytest.raises(NoRoomError):
        cached([(Patterns(), {"split": "train"}), (Huge(), {"split": "val"})], "disk", tmp_path)
    assert pixel_files(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_is_a_clear_error(small_disk):
    (small_disk / "other").write_bytes(bytes(200 * 1024))
    with pytest.raises(NoRoomError, match=r"dataset.cache=disk needs 0\.1 MiB and .* free"):
        one(Patterns(12), small_disk)
    (small_disk / "other").unlink()
    assert_equal(one(Patterns(12), small_disk), Patterns(12))


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"can't be written \(Not a directory\).*dataset.cache_dir"):
        one(Patterns(), tmp_path / "file")


# In memory.


def hold(memory, ready, leave):
    made = one(Patterns(), None, "ram", shared_memory=memory)
    ready.set()
    leave.wait(20)
    assert_equal(made, Patterns())
    made.close()


def test_the_last_user_of_memory_removes_it(tmp_path):
    ready, leave = fork.Event(), fork.Event()
    other = in_process(hold, tmp_path, ready, leave)
    assert ready.wait(20)
    made = one(Patterns(), None, "ram", shared_memory=tmp_path)
    made.close()
    assert len(pixel_files(tmp_path)) == 1
    leave.set()
    other.join(20)
    assert other.exitcode == 0
    assert pixel_files(tmp_path) == []
    assert leftovers(tmp_path) == []


def test_all_of_several_that_leave_at_once_leave_nothing(tmp_path):
    events = [(fork.Event(), fork.Event()) for _ in range(4)]
    leave = events[0][1]
    processes = [in_process(hold, tmp_path, ready, leave) for ready, _ in events]
    assert all(ready.wait(20) for ready, _ in events)
    leave.set()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 4
    assert pixel_files(tmp_path) == []


def test_a_data_set_that_is_dropped_gives_its_memory_back(tmp_path):
    made = one(Patterns(), None, "ram", shared_memory=tmp_path)
    assert len(pixel_files(tmp_path)) == 1
    del made
    gc.collect()
    assert pixel_files(tmp_path) == []


def forget(made):
    del made
    gc.collect()


def test_a_forked_process_that_ends_leaves_memory_alone(tmp_path):
    made = one(Patterns(), None, "ram", shared_memory=tmp_path)
    process = in_process(forget, made)
    process.join(20)
    assert_equal(made, Patterns())
    made.close()
    assert pixel_files(tmp_path) == []


def test_what_a_killed_run_left_in_memory_is_used_again_or_removed(tmp_path, capsys):
    ready, leave = fork.Event(), fork.Event()
    process = in_process(hold, tmp_path, ready, leave)
    assert ready.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (left,) = pixel_files(tmp_path)
    made = one(Patterns(), None, "ram", shared_memory=tmp_path)
    assert capsys.readouterr().err == ""
    assert pixel_files(tmp_path) == [left]
    made._leave.detach()  # as if it were killed too: nothing is removed
    other = one(Patterns(), None, "ram", {"name": "other"}, shared_memory=tmp_path)
    assert pixel_files(tmp_path) != [left]
    other.close()


def hold_with_a_worker(memory, ready):
    made = one(Patterns(), None, "ram", shared_memory=memory)
    worker = fork.Process(target=time.sleep, args=(20,))
    worker.start()
    ready.send((len(made), worker.pid))
    time.sleep(20)


def test_workers_of_a_killed_run_keep_no_memory(tmp_path):
    ours, theirs = fork.Pipe()
    process = in_process(hold_with_a_worker, tmp_path, theirs)
    assert ours.poll(20)
    _, worker = ours.recv()
    try:
        made = one(Patterns(), None, "ram", shared_memory=tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        made.close()
        assert pixel_files(tmp_path) == []
    finally:
        os.kill(worker, signal.SIGKILL)


def test_without_shared_memory_says_what_to_use(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cache=ram needs .*absent.*dataset.cache=disk"):
        one(Patterns(), None, "ram", shared_memory=tmp_path / "absent")


def test_memory_that_another_user_has_taken_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"segframe-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="belongs to user"):
        one(Patterns(), None, "ram", shared_memory=tmp_path)


# One copy for all.

BIG = 1024


class Big(Patterns):
    def __init__(self, count, side=BIG):
        super().__init__(count)
        self.side = side

    def size(self, index):
        return self.side, self.side

    def __getitem__(self, index):
        size = self.size(index)
        return torch.full((3, *size), index, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)


def own_kib(made, barrier, answers):
    pairs = [made[index] for index in range(len(made))]
    total = sum(int(image.sum()) for image, _ in pairs)
    barrier.wait(20)  # all have read all
    mapped = private = proportional = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()
        if "-" in name[0] and ":" not in name[0]:
            inside = line.endswith(PIXELS)
        elif inside and name[0] in ("Rss:", "Private_Dirty:", "Pss:"):
            mapped += int(name[1]) * (name[0] == "Rss:")
            private += int(name[1]) * (name[0] == "Private_Dirty:")
            proportional += int(name[1]) * (name[0] == "Pss:")
    barrier.wait(20)
    answers.put((total, mapped, private, proportional))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what processes share")
def test_processes_share_one_copy(tmp_path):
    made, count = one(Big(4), tmp_path), 3
    barrier, answers = fork.Barrier(count), fork.Queue()
    processes = [in_process(own_kib, made, barrier, answers) for _ in range(count)]
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(20)
    images_kib = 4 * 3 * BIG * BIG // 1024
    for total, mapped, private, proportional in found:
        assert total == sum(range(4)) * 3 * BIG * BIG
        assert mapped >= images_kib
        assert private == 0
        assert proportional < mapped / count * 1.1


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is mapped")
def test_only_the_window_is_read(tmp_path):
    side = 4 * BIG
    image, _ = one(Big(1, side), tmp_path)[0]
    assert int(image[:, :64].sum()) == 0
    lines = Path("/proc/self/smaps").read_text().split(PIXELS)[1].splitlines()
    rss_kib = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    assert 0 < rss_kib < 0.1 * 4 * side**2 / 1024


def test_pairs_begin_at_pages():
    assert offsets(np.array(SHAPES)).tolist() == [0, 4096, 8192, 8192 + 5 * 4096]


def test_is_only_made_by_cached(tmp_path):
    assert isinstance(one(Patterns(), tmp_path), CachedDataset)


def test_rows_are_those_of_whole_pairs(tmp_path, monkeypatch):
    for limit in (cache._READ_WHOLE, 100):  # read, and mapped
        monkeypatch.setattr(cache, "_READ_WHOLE", limit)
        made = one(Patterns(), tmp_path)
        for index in range(5):
            image, mask = made[index]
            for start, stop in ((0, 2), (3, 7), (0, len(mask))):
                assert torch.equal(made.image_rows(index, start, stop), image[:, start:stop])
                assert torch.equal(made.mask_rows(index, start, stop), mask[start:stop])
        made.image_rows(2, 0, 3).zero_()
        assert made[2][0].any()
        made.close()
