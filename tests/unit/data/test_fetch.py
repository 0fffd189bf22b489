import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segframe.data import fetch as module
from segframe.data.download import DownloadError
from segframe.data.fetch import fetch

CONTENT = random.Random(0).randbytes(5000)


class Handler(BaseHTTPRequestHandler):
    """Serves one file with ranges; each request takes the next fault of the server's list."""

    def do_GET(self):
        server = self.server
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        server.asked.append((asked, condition))
        fault = server.faults.pop(0) if server.faults else {}
        if "code" in fault:
            self.send_error(fault["code"])
            return
        content, start = server.content, 0
        same = condition is None or condition in (server.etag, server.changed)
        if asked and same and fault.get("ranges", True):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + fault.get('off', 0)}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault.get("length", True):
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in (("ETag", server.etag), ("Last-Modified", server.changed)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[start : start + fault.get("drop", len(content))])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.etag, server.changed, server.faults, server.asked = CONTENT, '"one"', None, [], []
    server.url = f"http://127.0.0.1:{server.server_port}/folder/set.tar"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.tar"


def is_whole(path):
    return path.read_bytes() == CONTENT and [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("faults", [[], [{"length": False}]])
def test_a_file_comes_whole(server, path, faults):
    server.faults += faults
    fetch(server.url, path)
    assert is_whole(path)
    assert server.asked == [(None, None)]


@pytest.mark.parametrize(("etag", "changed"), [('"one"', None), (None, "Mon, 01 Jan 2024 00:00:00 GMT"), (None, None)])
def test_a_dropped_connection_goes_on_in_the_middle(server, path, etag, changed, capsys):
    server.etag, server.changed = etag, changed
    server.faults += [{"drop": 2000}, {"drop": 0}, {"code": 503}, {"drop": 1000}]
    fetch(server.url, path, wait_s=0)
    assert is_whole(path)
    assert [asked for asked, _ in server.asked] == [None, *["bytes=2000-"] * 3, "bytes=3000-"]
    assert {condition for _, condition in server.asked[1:]} == {etag or changed}
    said = capsys.readouterr().err
    assert "set.tar: the connection was lost at 2.0 KiB of 4.9 KiB; goes on" in said
    assert "503" in said


def test_a_weak_etag_is_no_condition(server, path):
    server.etag = 'W/"one"'
    server.faults += [{"drop": 2000}]
    fetch(server.url, path, wait_s=0)
    assert server.asked[1] == ("bytes=2000-", None)


def test_a_later_call_goes_on_where_the_first_gave_up(server, path):
    server.faults += [{"drop": 2000}, *[{"drop": 0}] * 5]
    with pytest.raises(DownloadError, match=r"6 times without anything new. The 2.0 KiB that came are kept in .*part;"):
        fetch(server.url, path, wait_s=0)
    assert not path.exists()
    del server.asked[:]
    fetch(server.url, path)
    assert is_whole(path)
    assert server.asked == [("bytes=2000-", '"one"')]


def test_what_was_complete_when_the_process_died_is_not_fetched_again(server, path):
    path.with_name("set.tar.part").write_bytes(CONTENT)
    note = {"url": server.url, "total": len(CONTENT), "validator": '"one"'}
    path.with_name("set.tar.part.json").write_text(json.dumps(note))
    fetch(server.url, path)
    assert is_whole(path)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("fault", "message"), [({"ranges": False}, "sends the whole file"), ({"off": 1}, "file on the server has changed")]
)
def test_a_server_without_sound_ranges_starts_again(server, path, fault, message, capsys):
    server.faults += [{"drop": 2000}, fault]
    fetch(server.url, path, wait_s=0)
    assert is_whole(path)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("etag", ['"two"', None])
@pytest.mark.parametrize("length", [5000, 5001, 1000])
def test_a_file_that_changed_on_the_server_starts_again(server, path, etag, length):
    server.content, server.etag = b"?" * length, '"one"' if etag else None
    server.faults += [{"drop": 900}, *[{"drop": 0}] * 6]
    with pytest.raises(DownloadError):
        fetch(server.url, path, wait_s=0)
    server.content, server.etag = CONTENT, etag
    fetch(server.url, path, wait_s=0)
    # Without any mark of the file, only another length shows: the checksum finds the rest.
    assert is_whole(path) is (etag is not None or length != 5000)


@pytest.mark.parametrize("note", ["", "{", '{"url": "http://elsewhere/set.tar", "total": 5000, "validator": null}'])
def test_a_part_of_unknown_origin_is_not_continued(server, path, note):
    path.with_name("set.tar.part").write_bytes(b"?" * 100)
    path.with_name("set.tar.part.json").write_text(note)
    fetch(server.url, path)
    assert is_whole(path)
    assert server.asked == [(None, None)]


@pytest.mark.parametrize("code", [403, 404])
def test_a_refusal_is_not_repeated(server, path, code):
    server.faults += [{"code": code}]
    with pytest.raises(DownloadError, match=f"the server says {code} "):
        fetch(server.url, path)
    assert len(server.asked) == 1


def test_a_server_that_always_drops_at_one_place_ends(server, path):
    server.faults += [{"drop": 2000, "ranges": False}] * 20
    with pytest.raises(DownloadError, match="without anything new"):
        fetch(server.url, path, wait_s=0)
    assert len(server.asked) == 6


def test_no_server_says_so_at_once(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"cannot be reached: .*refused"):
        fetch(server.url, path, wait_s=60)


def test_waits_grow(server, path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.faults += [{"code": 503}] * 10
    with pytest.raises(DownloadError, match="503"):
        fetch(server.url, path)
    assert waits == [1, 2, 4, 8, 16]


def test_a_full_disk_says_so(server, path, monkeypatch):
    part = path.with_name("set.tar.part")
    part.symlink_to("/dev/full")
    monkeypatch.setattr(type(part), "unlink", lambda *_, **__: None)
    with pytest.raises(DownloadError, match=r"The disk of .*part is full. Make room"):
        fetch(server.url, path)
