"""`resolve`: what a model's name or path stands for, and the errors for those that stand for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minillm.errors import ModelNotFoundError
from minillm.weights import MODELS, fetch, is_cached, minillm_home, resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders with a checkpoint, one .gguf, two .gguf, something else, and nothing."""
    for path in (
        "checkpoint/config.json",
        "one/a.gguf",
        "one/README.md",
        "two/a.gguf",
        "two/b.GGUF",
        "other/x",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_paths_that_hold_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(folder / "checkpoint") == folder / "checkpoint"
    assert resolve(str(folder / "one/a.gguf")) == folder / "one/a.gguf"
    assert resolve(folder / "two/b.GGUF") == folder / "two/b.GGUF"
    assert resolve(folder / "one") == folder / "one/a.gguf"

    monkeypatch.setenv("HOME", str(folder))
    assert resolve("~/checkpoint") == folder / "checkpoint"
    monkeypatch.chdir(folder.parent)
    assert resolve(f"{folder.name}/checkpoint") == Path(folder.name, "checkpoint")  # not the hub


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two", "several .gguf files; give the path of one of them: a.gguf, b.GGUF"),
        ("other", "holds no model: expected config.json or one .gguf file, found x"),
        ("empty", "found nothing"),
        ("other/x", "it is a file, but not a .gguf file"),
        ("absent.gguf", "absent.gguf"),
    ],
)
def test_paths_that_hold_none(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(folder / name)
    assert message in str(caught.value)
    assert str(folder / name) in str(caught.value)


def test_an_unknown_name_lists_what_is_known_and_suggests_the_nearest() -> None:
    for known in (resolve, fetch, is_cached):
        with pytest.raises(ModelNotFoundError) as caught:
            known("SmolLM-135m")
        message = str(caught.value)
        assert "did you mean smollm2-135m?" in message
        for part in (*MODELS, "tiny-random", ".gguf file", "config.json", "org/name"):
            assert part in message
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("gpt-5")
    assert "did you mean" not in str(caught.value)


def test_tiny_random_has_no_files() -> None:
    with pytest.raises(ModelNotFoundError, match="built in memory"):
        resolve("tiny-random")


def test_names_and_aliases_ignore_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILLM_HOME", str(tmp_path))
    names = [name for source in MODELS.values() for name in (source.name, *source.aliases)]
    assert len(set(names)) == len(names)
    for name in names:
        assert name == name.lower()
        assert not is_cached(name.upper())


@given(st.text())
def test_any_text_resolves_or_raises_a_clear_error(text: str) -> None:
    assume("/" not in text and text.lower() not in MODELS)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(text)
    assert len(str(caught.value).splitlines()) == 1


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINILLM_HOME", raising=False)
    assert minillm_home() == tmp_path / ".cache/minillm"
    monkeypatch.setenv("MINILLM_HOME", "")
    assert minillm_home() == tmp_path / ".cache/minillm"
    monkeypatch.setenv("MINILLM_HOME", "~/models")
    assert minillm_home() == tmp_path / "models"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINILLM_HOME", "here")
    assert minillm_home() == tmp_path / "here"


# --- The hub: its own client, against a server that speaks as much of its protocol as a download needs ---

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer.model": b"sentencepiece",
    "chat_template.jinja": b"{{ messages }}",
    "merges.txt": b"a b",
    "pytorch_model.bin": b"a pickle",
    "original/consolidated.safetensors": b"the same weights again",
}


class HubHandler(BaseHTTPRequestHandler):
    """org/good can be downloaded, org/gated asks for a login, org/broken fails, nothing else exists."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        repo = next((repo for repo in ("org/good", "org/gated", "org/broken") if f"/{repo}/" in path), None)
        if repo is None:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif "/revision/" in path:
            siblings = [{"rfilename": name} for name in REPOSITORY]
            self.answer(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())
        elif "/tree/" in path:
            files = [
                {"type": "file", "path": name, "size": len(data), "oid": COMMIT} for name, data in REPOSITORY.items()
            ]
            self.answer(200, json.dumps(files).encode())
        elif repo == "org/gated":
            self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif repo == "org/broken":
            self.answer(418, b"")
        else:
            name = path.partition(f"{COMMIT}/")[2]
            self.answer(200, REPOSITORY[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """The address of a hub with the repositories above."""
    with ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def resolve_elsewhere(name: str, endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Resolves in a new process, because the hub's client reads its address when it is imported."""
    code = "import sys; from minillm.weights import resolve; print(resolve(sys.argv[1], progress=False))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", code, name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_model_on_the_hub(hub: str, tmp_path: Path) -> None:
    run = resolve_elsewhere("org/good", hub, tmp_path)
    assert run.returncode == 0, run.stderr
    found = Path(run.stdout.strip())
    assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "merges.txt",
    }
    again = resolve_elsewhere("org/good", "http://127.0.0.1:1", tmp_path)
    assert again.stdout == run.stdout, again.stderr  # offline, from the hub's cache


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "org/absent",
            "ModelNotFoundError: There is no folder org/absent here and no public model org/absent on",
        ),
        ("org/gated", "WeightsError: org/gated is gated: accept its terms on its Hugging Face page"),
        ("org/broken", "WeightsError: There is no folder org/broken here, and the Hugging Face hub did not"),
        ("or..g/name", "WeightsError: There is no folder or..g/name here, and the Hugging Face hub did not"),
    ],
)
def test_a_hub_that_refuses(hub: str, tmp_path: Path, name: str, message: str) -> None:
    run = resolve_elsewhere(name, hub, tmp_path)
    assert run.returncode == 1
    assert f"minillm.errors.{message}" in run.stderr.splitlines()[-1]


def test_no_hub(tmp_path: Path) -> None:
    run = resolve_elsewhere("org/name", "http://127.0.0.1:1", tmp_path)
    message = run.stderr.splitlines()[-1]
    assert "WeightsError: There is no folder org/name here, and the Hugging Face hub did not deliver" in message
    assert "Connection refused" in message
    assert "smollm2-135m" in message
