"""JSONL files: what is written is read again, and what is wrong is said with its file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.evaluation import DATA, DatasetError, Example, Source, read_examples, write_examples
from minillm.evaluation.judging import read_judge_cases
from minillm.evaluation.probing import HARMLESS, KINDS, read_probes
from minillm.evaluation.scoring import NAMES, check_fit, find_metric

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
SOURCES = st.lists(st.builds(Source, TEXTS, TEXTS), max_size=3, unique_by=lambda source: source.id).map(tuple)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    sources = draw(SOURCES)
    ids = [source.id for source in sources]
    grades = st.sampled_from([0.5, 1.0, 2.0])
    relevant = draw(st.dictionaries(st.sampled_from(ids), grades)) if ids else {}
    answers, retrieved = tuple(draw(st.lists(TEXTS, max_size=2))), tuple(draw(st.permutations(ids)))
    return Example(draw(TEXTS), draw(TEXTS), answers, sources, relevant, retrieved, draw(st.none() | TEXTS))


@given(st.lists(examples(), min_size=1, max_size=4, unique_by=lambda example: example.id))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, written: list[Example]) -> None:
    path = tmp_path_factory.mktemp("dataset") / "examples.jsonl"
    write_examples(path, written)
    assert read_examples(path) == written


GOOD = '{"id": "a", "question": "Why?"}'
FAULTS = {
    "not JSON": ("{", "line 2: not JSON"),
    "no object": ("[1]", "line 2: [1] is no object"),
    "no id": ('{"question": "Why?"}', "line 2: id is missing"),
    "blank": ('{"id": "b", "question": " "}', 'line 2: question is " "'),
    "wrong type": ('{"id": "b", "question": "Why?", "answers": "x"}', 'line 2: answers is "x"; expected a list'),
    "misspelt": ('{"id": "b", "question": "Why?", "anwsers": []}', "line 2: there's no field 'anwsers'; known are ans"),
    "nested": ('{"id": "b", "question": "Why?", "sources": [{"id": "s"}]}', "line 2, sources[0]: text is missing"),
    "grade": ('{"id": "b", "question": "Why?", "relevant": {"s": -1}}', "line 2: relevant is"),
    "infinite": ('{"id": "b", "question": "Why?", "relevant": {"s": Infinity}}', "line 2: relevant is"),
    "unknown source": (
        '{"id": "b", "question": "Why?", "sources": [{"id": "s", "text": "t"}], "relevant": ["r"]}',
        "line 2: relevant names 'r'",
    ),
    "twice": ('{"id": "b", "question": "Why?", "retrieved": ["s", "s"]}', "line 2: retrieved has an id twice"),
    "same id": (GOOD, "line 2: the id 'a' is that of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_their_line(tmp_path: Path, fault: str) -> None:
    line, message = FAULTS[fault]
    path = tmp_path / "faulty.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_files_that_hold_no_text_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    with pytest.raises(DatasetError, match=r"examples\.jsonl can't be read"):
        read_examples(path)
    path.write_bytes(GOOD.encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(DatasetError, match="line 2: not UTF-8"):
        read_examples(path)
    path.write_text("\n\n")
    with pytest.raises(DatasetError, match="has no examples"):
        read_examples(path)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")  # as some editors on Windows save it
    assert [example.id for example in read_examples(path)] == ["a"]


def test_the_questions_that_come_along_fit_every_metric() -> None:
    read = read_examples(DATA / "questions.jsonl")
    check_fit([find_metric(name) for name in NAMES], read)
    for example in read:  # a reference is in the text of what is relevant
        text = " ".join(source.text for source in example.sources if source.id in example.relevant)
        words = example.answers[0].replace("at ", "").replace("and ", "").replace(",", "").split()
        assert all(word in text for word in words), example.id


def test_the_cases_for_judges_dont_tell_right_from_wrong_by_length() -> None:
    cases = read_judge_cases(DATA / "judge.jsonl")
    longer = sum(len(case.better) > len(case.worse) for case in cases)
    assert len(cases) == 16 and longer == 8


def test_the_probes_have_all_kinds_and_no_sign_gives_itself_away() -> None:
    probes = read_probes(DATA / "attacks.jsonl") + read_probes(DATA / "harmless.jsonl")
    assert {probe.kind for probe in probes} == set(KINDS)
    for probe in probes:
        if probe.kind == "injection":  # the word can only have come from the document
            assert any(sign in " ".join(probe.documents).casefold() for sign in probe.signs)
            assert not any(sign in (probe.system + probe.user).casefold() for sign in probe.signs)
        if probe.kind == "leak":
            assert any(sign in probe.system.casefold() for sign in probe.signs)
    assert sum(probe.kind == HARMLESS for probe in probes) == 16


def test_an_example_is_asked_with_numbered_sources() -> None:
    example = Example("a", "How high?", sources=(Source("x", "24 m."), Source("y", "1832.")))
    system, user = example.messages()
    assert "cite" in system["content"]
    assert user["content"] == "Sources:\n\n[1] 24 m.\n\n[2] 1832.\n\nQuestion: How high?"
    assert Example("a", "Why?").messages() == [{"role": "user", "content": "Why?"}]
    assert json.loads(json.dumps(example.messages())) == example.messages()
