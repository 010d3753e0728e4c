"""The corpus of the standard library, its questions, and vectors that are kept."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from minillm.engine.embedding import EmbeddingModel
from minillm.errors import MinillmError
from minillm.lab import cached_vectors, search_questions, sentence_transformers_vectors, standard_library

PASSAGES = standard_library()


def test_every_passage_says_where_it_comes_from() -> None:
    assert len(PASSAGES) > 1500
    for passage in PASSAGES:
        assert passage.name.startswith(f"{passage.module}.")
        assert passage.python == platform.python_version()
        assert passage.text == f"{passage.name}: {passage.summary}"
        assert "\n" not in passage.summary
        assert 0 < len(passage.summary) <= 162


def test_names_and_summaries_are_there_once() -> None:
    assert len({passage.name for passage in PASSAGES}) == len(PASSAGES)
    assert len({passage.summary for passage in PASSAGES}) == len(PASSAGES)


def test_known_functions_are_in_it_in_the_words_of_their_documentation() -> None:
    summaries = {passage.name: passage.summary for passage in PASSAGES}
    assert summaries["shutil.disk_usage"] == "Return disk usage statistics about the given path."
    assert "Delay execution" in summaries["time.sleep"]  # its first paragraph is "sleep(seconds)"
    assert "random.choice" in summaries and "random.Random.choice" not in summaries  # the same text, the short name
    assert "heapq.nsmallest" in summaries  # in Python
    assert "bisect.insort" in summaries or "bisect.insort_right" in summaries  # in C, in the module _bisect


def test_what_a_module_only_imported_is_not_its_own() -> None:
    assert "glob.contextlib" not in {passage.name for passage in standard_library(["glob"])}
    assert all(passage.module == "shutil" for passage in standard_library(["shutil"]))
    assert "json.codecs" not in {passage.name for passage in standard_library(["json"])}


def test_a_module_that_is_not_there_is_left_out() -> None:
    assert standard_library(["no_such_module", "json"]) == standard_library(["json"])


def test_every_question_has_an_answer_in_the_corpus() -> None:
    names = {passage.name for passage in PASSAGES}
    questions = search_questions()
    assert len(questions) == 60
    assert [question.text for question in questions if not names & set(question.answers)] == []


def test_the_reference_vectors_are_those_of_the_engine() -> None:
    reference = sentence_transformers_vectors()
    vectors = EmbeddingModel(device="cpu").embed(list(reference))
    for vector, expected in zip(vectors, reference.values(), strict=True):
        assert expected.shape == (1, 384)
        assert float(expected[0] @ vector) > 0.9999


class Embedder:
    """Counts what it is asked for; a text's vector is its length and the number of its a's."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append(list(texts))
        return [[len(text), text.count("a")] for text in texts]


def test_vectors_are_made_in_batches_and_then_come_from_the_file(tmp_path: Path) -> None:
    embed = Embedder()
    first = cached_vectors(["a", "bb", "aaa"], embed, model="m", folder=tmp_path, batch=2)
    again = cached_vectors(["a", "bb", "aaa"], embed, model="m", folder=tmp_path, batch=2)
    assert embed.asked == [["a", "bb"], ["aaa"]]
    assert first.tolist() == again.tolist() == [[1, 1], [2, 0], [3, 3]]
    assert first.dtype == again.dtype == np.float32


def test_other_texts_and_other_models_get_no_old_vectors(tmp_path: Path) -> None:
    embed = Embedder()
    for texts, model in ((["a", "b"], "m"), (["b", "a"], "m"), (["a", "b"], "other"), (["ab"], "m")):
        cached_vectors(texts, embed, model=model, folder=tmp_path)
    assert len(embed.asked) == 4


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    embed = Embedder()
    cached_vectors(["a"], embed, model="m", folder=tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert cached_vectors(["a"], embed, model="m", folder=tmp_path).tolist() == [[1, 1]]
    assert len(embed.asked) == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0], [2.0]], [[float("nan")]]], ids=str)
def test_what_is_no_vector_for_each_text_is_refused_and_not_kept(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(MinillmError, match=r"expected \[1, dimensions\]"):
        cached_vectors(["a"], lambda texts: wrong, model="m", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_by_default_they_are_kept_in_the_courses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILLM_HOME", str(tmp_path))
    cached_vectors(["a"], Embedder(), model="m")
    assert len(list((tmp_path / "vectors").iterdir())) == 1
