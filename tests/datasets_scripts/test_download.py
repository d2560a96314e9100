import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from corpus_helpers import write_recording

from datasets_scripts import CORPORA, load_corpus
from datasets_scripts.download import ATTEMPTS, Archive, DownloadError

pytestmark = pytest.mark.filterwarnings("ignore:emodb .* has:UserWarning")


class ArchiveServer(ThreadingHTTPServer):
    """Serves `data` at `/corpus.zip` and cuts the first `cuts` transfers off in the middle."""

    daemon_threads = True

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), ArchiveHandler)
        self.data = data
        self.cuts = 0
        self.takes_ranges = True
        self.ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/corpus.zip"


class ArchiveHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/corpus.zip":
            return self.send_error(404)
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked and self.server.takes_ranges else 0
        body = self.server.data[start:]
        if not body:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def archive(tmp_path):
    """A small zip of the layout of EmoDB's."""
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for stem in ("03a01Fa", "08a01Na", "09b01Wb"):
            recording = write_recording(tmp_path / f"{stem}.wav", seconds=3.0)
            zipped.write(recording, f"wav/{recording.name}")
        zipped.writestr("erkennung.txt", "1\xa0\t03a01Fa.wav\t95,00\xa0\t80,00\n".encode("latin-1"))
    return path.read_bytes()


@pytest.fixture
def server(archive):
    with ArchiveServer(archive) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load(server, cache, **options):
    return load_corpus("emodb", cache_dir=cache, **({"url": server.url} | options))


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("streaming", [False, True])
def test_archive_is_fetched_verified_and_unpacked_once(server, archive, cache, streaming):
    for _ in range(2):
        dataset = load(server, cache, md5=md5(archive), streaming=streaming)
        rows = list(dataset)
        assert [row["file"] for row in rows] == [
            "wav/03a01Fa.wav", "wav/08a01Na.wav", "wav/09b01Wb.wav",
        ]  # fmt: skip
        assert rows[0]["agreement"] == pytest.approx(0.95)
    assert server.ranges == [None]


def test_cut_transfer_is_resumed(server, archive, cache):
    server.cuts = 2
    assert len(load(server, cache, md5=md5(archive))) == 3
    assert server.ranges[0] is None
    first, second = (int(asked[len("bytes=") : -1]) for asked in server.ranges[1:])
    assert 0 < first < second < len(archive)


def test_later_call_resumes_what_an_earlier_one_left(server, archive, cache):
    server.cuts = ATTEMPTS
    with pytest.raises(DownloadError, match="Could not download emodb"):
        load(server, cache)
    server.ranges.clear()
    assert len(load(server, cache)) == 3
    assert len(server.ranges) == 1
    assert server.ranges[0] is not None


def test_server_that_ignores_ranges_starts_anew(server, archive, cache):
    server.cuts = 1
    server.takes_ranges = False
    assert len(load(server, cache, md5=md5(archive))) == 3


def test_wrong_checksum_is_refused_and_not_kept(server, archive, cache):
    with pytest.raises(DownloadError, match=f"its md5 is {md5(archive)}, expected {'0' * 32}"):
        load(server, cache, md5="0" * 32)
    assert len(load(server, cache, md5=md5(archive))) == 3
    assert server.ranges == [None, None]


def contents_of(archive):
    """The digest that stands for a published archive, by the words of its documentation."""
    lines = []
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        for name in (name for name in zipped.namelist() if name.endswith(".wav")):
            samples, _ = soundfile.read(io.BytesIO(zipped.read(name)), dtype="int16")
            own = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
            lines.append(f"{name[len('wav/') : -len('.wav')]} {own}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def test_official_archive_without_a_checksum_is_known_by_its_recordings(
    server, archive, cache, monkeypatch
):
    # Where the official archive lies, and what it holds, are the only things that differ here.
    official = Archive(url=server.url, contents=contents_of(archive))
    monkeypatch.setattr(CORPORA["emodb"], "ARCHIVE", official)
    assert len(load_corpus("emodb", cache_dir=cache)) == 3


def test_archive_that_is_not_the_published_one_is_refused(server, archive, cache, monkeypatch):
    published = CORPORA["emodb"].ARCHIVE
    monkeypatch.setattr(CORPORA["emodb"], "ARCHIVE", replace(published, url=server.url))
    message = f"not the published ones: their digest is {contents_of(archive)}, expected .*by hand"
    with pytest.raises(DownloadError, match=message):
        load_corpus("emodb", cache_dir=cache)
    assert not list(Path(cache).rglob("*.wav"))


def test_missing_archive_says_what_to_fetch_and_where_to_put_it(server, cache):
    url = server.url.replace("corpus", "moved")
    with pytest.raises(DownloadError) as error:
        load(server, cache, url=url)
    message = str(error.value)
    assert "404" in message
    assert f"Fetch {url} by hand" in message
    assert 'load_dataset("emodb", data_dir="<folder>")' in message


def test_unreachable_server_is_one_message(server, cache):
    with pytest.raises(DownloadError, match="by hand"):
        load(server, cache, url="http://127.0.0.1:9/corpus.zip")


def test_what_is_no_zip_is_refused(server, archive, cache):
    server.data = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="not a zip file"):
        load(server, cache)
    server.data = archive
    assert len(load(server, cache)) == 3


def test_member_outside_of_the_folder_is_refused(server, tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        zipped.writestr("../../escaped.wav", b"")
    server.data = (tmp_path / "evil.zip").read_bytes()
    with pytest.raises(DownloadError, match=r"escaped\.wav' would be unpacked outside"):
        load(server, cache)
    assert not list(tmp_path.rglob("escaped.wav"))


def test_corrupt_member_is_refused_and_nothing_is_left_half_unpacked(server, archive, cache):
    position = archive.index(b"RIFF") + 60
    server.data = archive[:position] + b"\x00\x01\x02\x03" + archive[position + 4 :]
    with pytest.raises(DownloadError, match="CRC"):
        load(server, cache)
    server.data = archive
    assert len(load(server, cache)) == 3
