"""Ingest: whatever happens to the files, and wherever it's interrupted, the index is as a fresh one would be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rag_files import WordEmbedder, content, document

from minillm.rag import AddReport, Filters, Index, PythonModule, RagError
from minillm.rag.index import BATCH_SIZE, Progress

NAMES = ("a.md", "b.txt", "c.html", "sub/d.md")
TEXTS = (
    "# Fruit\n\nRed apples and green pears.\n\n## More\n\nBlue plums.",
    "A green boat at sea.",
    "---\nowner: Ann\nclassification: public\n---\nThe boat is red.",
    "Blue. " * 300,
    "\n\n".join(f"## Part {n}\n\nBoat number {n} is at sea." for n in range(BATCH_SIZE + 30)),
    "",  # can't be read: it has no text
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(-1, len(TEXTS) - 1), st.sampled_from([1_600_000_000, 1_700_000_000])),
    max_size=4,
)


def change(folder: Path, changes: list[tuple[str, int, int]]) -> None:
    for name, text, when in changes:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if text < 0:
            path.unlink(missing_ok=True)
        else:
            path.write_text(TEXTS[text])
            os.utime(path, (when, when))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "rag.db", WordEmbedder()) as opened:
        yield opened


@settings(max_examples=25)
@given(st.lists(CHANGES, min_size=1, max_size=3), st.data())
def test_any_changes_with_any_interruptions_give_the_same_index_as_a_fresh_one(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, int, int]]], data: st.DataObject
) -> None:
    base = tmp_path_factory.mktemp("rounds")
    folder = base / "docs"
    folder.mkdir()
    embedder = WordEmbedder()
    for changes in rounds:
        change(folder, changes)
        embedder.asked.clear()
        for _ in range(data.draw(st.integers(0, 2), label="interruptions")):
            embedder.fails_at = len(embedder.batches) + data.draw(st.integers(0, 2), label="after requests")
            with Index(base / "rag.db", embedder) as index:
                try:
                    index.add([folder])
                except KeyboardInterrupt:
                    continue
                finally:
                    embedder.fails_at = None
        with Index(base / "rag.db", embedder) as index:
            index.add([folder])
            asked = list(embedder.asked)
            with Index(":memory:", WordEmbedder(), base=base) as fresh:
                fresh.add([folder])
                assert content(index) == content(fresh)
            assert len(asked) == len(set(asked))  # nothing was embedded twice, whatever interrupted it
            embedder.asked.clear()
            again = index.add([folder])
            assert (again.added, again.changed, again.removed, embedder.asked) == ([], [], [], [])
    shutil.rmtree(base)


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from rag_files import WordEmbedder
from minillm.rag import Index
class Dying(WordEmbedder):
    def embed(self, texts):
        if len(self.batches) == int(sys.argv[4]):
            os.kill(os.getpid(), 9)
        return super().embed(texts)
Index(sys.argv[2], Dying()).add([sys.argv[3]])
"""


@pytest.mark.parametrize(("after", "left"), [(0, 97), (1, 33), (2, 3), (3, 0)])
def test_a_killed_process_loses_nothing_that_was_embedded(tmp_path: Path, folder: Path, after: int, left: int) -> None:
    change(folder, [("a.md", 4, 1_600_000_000), ("b.txt", 1, 1_600_000_000), ("sub/d.md", 0, 1_600_000_000)])
    arguments = [str(Path(__file__).parent), str(tmp_path / "rag.db"), str(folder), str(after)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=60)
    assert killed.returncode == (-9 if left else 0)
    with Index(tmp_path / "rag.db", WordEmbedder()) as index, Index(":memory:", WordEmbedder(), base=tmp_path) as fresh:
        assert index.add([folder]).embedded == left
        fresh.add([folder])
        assert content(index) == content(fresh)


def test_the_report_says_what_was_done(index: Index, folder: Path) -> None:
    change(folder, [("a.md", 0, 1), ("b.txt", 1, 1), ("c.html", 5, 1)])
    first = index.add([folder])
    assert (first.added, first.embedded) == (["docs/a.md", "docs/b.txt"], 3)
    assert "no text" in first.failed["docs/c.html"]
    change(folder, [("a.md", 2, 1), ("b.txt", -1, 1), ("c.html", 1, 1), ("sub/d.md", 2, 1)])
    second = index.add([folder])
    # docs/c.html has the text that b.txt had, but another title above it.
    expected = AddReport(["docs/c.html", "docs/sub/d.md"], ["docs/a.md"], 0, ["docs/b.txt"], {}, 3)
    assert second == expected
    assert index.add([folder]) == AddReport(unchanged=3)


def test_only_what_is_new_in_a_file_is_embedded(index: Index, folder: Path) -> None:
    (folder / "a.md").write_text(TEXTS[4])
    assert index.add([folder]).embedded == BATCH_SIZE + 30
    (folder / "a.md").write_text(TEXTS[4] + "\n\n## New\n\nA line.")
    assert index.add([folder]).embedded == 1
    (folder / "a.md").rename(folder / "z.md")
    renamed = index.add([folder])
    assert (renamed.added, renamed.removed, renamed.embedded) == (["docs/z.md"], ["docs/a.md"], 0)


def test_a_file_that_can_not_be_read_any_more_is_not_there_as_it_was(index: Index, folder: Path) -> None:
    change(folder, [("a.md", 0, 1)])
    index.add([folder])
    (folder / "a.md").write_bytes(b"\xff")
    assert list(index.add([folder]).failed) == ["docs/a.md"]
    assert len(index) == 0
    assert index.search("apples") == []


def test_other_documents_are_left_alone(index: Index, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2/x.txt").write_text("A red boat.")
    change(folder, [("a.md", 0, 1)])
    index.add([folder, tmp_path / "docs2", PythonModule("colorsys"), document("note", "A blue boat.")])
    assert [about.source for about in index.documents()] == ["docs/a.md", "docs2/x.txt", "note", "python:colorsys"]
    (folder / "a.md").unlink()
    assert index.add([folder]).removed == ["docs/a.md"]
    (tmp_path / "docs2/x.txt").unlink()
    assert index.add([tmp_path / "docs2/x.txt"]).removed == ["docs2/x.txt"]
    assert [about.source for about in index.documents()] == ["note", "python:colorsys"]
    index.remove(["note", "nothing"])
    assert [about.source for about in index.documents()] == ["python:colorsys"]


def test_a_folder_that_is_gone_takes_its_documents_along(index: Index, folder: Path) -> None:
    change(folder, [("a.md", 0, 1), ("sub/d.md", 1, 1)])
    index.add([folder])
    shutil.rmtree(folder)
    assert index.add([folder]).removed == ["docs/a.md", "docs/sub/d.md"]
    with pytest.raises(RagError, match="nothing at"):
        index.add([folder])


def test_names_are_relative_to_the_index(tmp_path: Path, folder: Path) -> None:
    change(folder, [("a.md", 0, 1)])
    (tmp_path / "indexes").mkdir()
    with Index(tmp_path / "indexes/rag.db", WordEmbedder()) as index:
        index.add([folder / "a.md"])
        assert [about.source for about in index.documents()] == [(folder / "a.md").as_posix()]
    with Index(tmp_path / "rag.db", WordEmbedder()) as index:
        index.add([folder])
        assert index.add([folder / "a.md"]).unchanged == 1


def test_a_tenants_documents_stay_its_own(index: Index, folder: Path) -> None:
    change(folder, [("a.md", 0, 1), ("b.txt", 1, 1)])
    (folder / "c.md").write_text("---\ntenant: other\n---\nA red boat.")
    report = index.add([folder, document("given", "A boat.")], tenant="acme")
    assert list(report.failed) == ["docs/c.md"]
    assert [about.source for about in index.documents("acme")] == ["docs/a.md", "docs/b.txt", "given"]
    assert index.search("boat") == []
    assert len(index.search("boat", filters=Filters(tenant="acme"))) == 4


def test_secrets_are_not_embedded_and_stay_in_the_index(tmp_path: Path) -> None:
    embedder = WordEmbedder()
    with Index(tmp_path / "rag.db", embedder) as index:
        index.add([document("a", "Write to ann@example.com about boats.")])
        [hit] = index.search("who is bob@example.com", 1)
        assert "ann@example.com" in hit.chunk.text
    assert embedder.asked == ["a\nWrite to <e-mail A> about boats.", "who is <e-mail A>"]


def test_progress_is_told(index: Index, folder: Path) -> None:
    change(folder, [("a.md", 4, 1), ("b.txt", 1, 1)])
    told: list[Progress] = []
    index.add([folder], progress=told.append)
    assert told[0] == Progress(0, 2, "docs/a.md", 0)
    assert told[-1] == Progress(2, 2, "", BATCH_SIZE + 31)
    assert {now.embedded for now in told} == {0, BATCH_SIZE, BATCH_SIZE + 30, BATCH_SIZE + 31}


def test_odd_text_is_kept_as_far_as_it_can_be(index: Index) -> None:
    index.add([document("od\udcffd", "half \ud83d and zero \0 and all 🙂")])
    [hit] = index.search("zero \udcff", 1)
    assert hit.chunk.text == "half \\ud83d and zero   and all 🙂"
    assert hit.provenance.source == "od\\udcffd"


def test_one_model_for_one_index(tmp_path: Path) -> None:
    other = WordEmbedder()
    other.model = "others"
    with Index(tmp_path / "rag.db", WordEmbedder()) as index:
        index.add([document("a", "boat")])
    with Index(tmp_path / "rag.db", other) as index:
        with pytest.raises(RagError, match="made with words, and the embedder is others"):
            index.search("boat")
        with pytest.raises(RagError, match="made with words"):
            index.add([document("b", "ship")])
        assert len(index.search("boat", mode="words")) == 1
    with Index(tmp_path / "rag.db", WordEmbedder(32)) as index, pytest.raises(RagError, match="of 32 numbers"):
        index.search("boat")
    with Index(tmp_path / "rag.db") as index:
        assert len(index.search("boat", mode="words")) == 1
        with pytest.raises(RagError, match="without an embedder"):
            index.search("boat")
        with pytest.raises(RagError, match="without an embedder"):
            index.add([])


def test_two_processes_may_have_it_open(tmp_path: Path) -> None:
    with Index(tmp_path / "rag.db", WordEmbedder()) as one, Index(tmp_path / "rag.db", WordEmbedder()) as two:
        one.add([document("a", "boat")])
        two.add([document("b", "ship")])
        assert len(one) == len(two) == 2
        with one._database, Index(tmp_path / "rag.db", WordEmbedder()) as three:  # opened while one writes
            assert len(three.search("boat")) == 2


def test_what_is_no_index_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RagError, match="no index at"):
        Index(tmp_path / "none.db", create=False)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("This is a text and no database at all. " * 50)
    with pytest.raises(RagError, match="isn't a SQLite database"):
        Index(tmp_path / "text.db")
    foreign = apsw.Connection(str(tmp_path / "foreign.db"))
    foreign.execute("create table t (x)")
    foreign.close()
    before = (tmp_path / "foreign.db").read_bytes()
    with pytest.raises(RagError, match="something else"):
        Index(tmp_path / "foreign.db")
    assert (tmp_path / "foreign.db").read_bytes() == before
    Index(tmp_path / "newer.db").close()
    newer = apsw.Connection(str(tmp_path / "newer.db"))
    newer.execute("pragma user_version = 99")
    newer.close()
    with pytest.raises(RagError, match="format 99"):
        Index(tmp_path / "newer.db")


def test_what_can_not_be_added_is_an_error(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(RagError, match=r"end in \.md"):
        index.add([tmp_path / "a.png"])
    with pytest.raises(RagError, match="Two documents are called a"):
        index.add([document("a", "x"), document("a", "y")])
