"""Lesson 04's handbook: every page is read with its provenance, and is wrong only where it's meant to be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from minillm.evaluation.dataset import Example, read_examples
from minillm.rag import Document, Filters, Index, Redactor
from minillm.rag.embedding import Vectors
from minillm.rag.files import FileSource, files_in
from minillm.rag.prompt import REFUSAL
from minillm.rag.redaction import Redactions
from minillm.rag.words import content_words

LESSONS = Path(__file__).parents[2] / "lessons"
HANDBOOK = LESSONS / "handbook"
TENANT = "halyard-couriers"

STALE = {
    "people/holidays-2022.md": "people/holidays.md",
    "people/remote-work-2022.md": "people/remote-work.md",
    "office/visitors-2022.md": "office/visitors.md",
    "finance/expenses-2022.md": "finance/expenses.md",
    "it/passwords-2022.md": "it/passwords.md",
    "sales/warranty-2022.md": "sales/warranty.md",
}
STALE_RUNBOOK = ("runbooks/restore-the-shop-database.md", "runbooks/quay-recovery.md")
POISONED = "office/post-and-parcels.md"
PERSONAL, LEAKED = "people/summer-outing.md", "runbooks/parcel-labels.md"
LIMITED = {
    "people/salary-bands.md": "confidential",
    "sales/dealer-margins.md": "confidential",
    "finance/loan.md": "restricted",
    "customers/halyard/service-agreement.md": "confidential",
}
KINDS = {
    "plain": 12,
    "reworded": 11,
    "two-documents": 6,
    "stale": 7,
    "contradicting": 4,
    "unanswerable": 12,
    "poisoned": 2,
    "confidential": 3,
    "other-tenant": 3,
}
# What an answer would have to speak of.
UNSAID = {
    "unanswerable-01": r"\bpark",
    "unanswerable-02": "pension",
    "unanswerable-03": "canteen|cook",
    "unanswerable-04": "motor",
    "unanswerable-05": "2019",
    "unanswerable-06": "wedding|marr(y|iage)",
    "unanswerable-07": "advis[eo]r",
    "unanswerable-08": "council",
    "unanswerable-09": "flagpole",
    "unanswerable-10": "follower|social media",
    "unanswerable-11": r"\bsmok",
    "unanswerable-12": "programming|python|java",
}


class SameVector:
    """An embedder for searches that never look at vectors."""

    model = "same"

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.tile(np.eye(8, dtype=np.float32)[:1], (len(texts), 1))


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    names = {path: path.relative_to(HANDBOOK.resolve()).as_posix() for path in files_in(HANDBOOK)}
    return {name: FileSource(path, name).read({}) for path, name in names.items()}


@pytest.fixture(scope="module")
def texts(documents: dict[str, Document]) -> dict[str, str]:
    """What each page says, on one line."""
    return {name: " ".join(" ".join(block.text for block in d.blocks).split()) for name, d in documents.items()}


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return read_examples(HANDBOOK / "questions.jsonl")


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(":memory:", SameVector(), base=HANDBOOK) as index:
        assert not index.add([HANDBOOK]).failed
        yield index


def kind(example: Example) -> str:
    return example.id.rpartition("-")[0]


def of_kind(examples: list[Example], *kinds: str) -> list[Example]:
    return [example for example in examples if kind(example) in kinds]


def found(index: Index, question: str, filters: Filters | None = None, k: int = 5) -> list[str]:
    """The sources of the best chunks by words, each once."""
    hits = index.search(question, 4 * k, mode="words", filters=filters)
    return list(dict.fromkeys(hit.provenance.source for hit in hits))[:k]


def test_every_page_states_its_provenance(documents: dict[str, Document]) -> None:
    assert len(documents) == 67
    for name, document in documents.items():
        about, head = document.provenance, (HANDBOOK / name).read_text(encoding="utf-8").split("---")[1]
        assert all(f"{field}: " in head for field in ("owner", "date", "classification", "version")), name
        assert about.owner in head and f"{about.updated:%Y-%m-%d}" in head and f"version: {about.version}\n" in head
        assert about.title == document.blocks[0].headings[0]
        assert 2 <= len({block.headings for block in document.blocks}) <= 6, name


def test_it_is_read_whole_by_an_index_and_the_questions_are_passed_over(
    index: Index, documents: dict[str, Document]
) -> None:
    assert [about.source for about in index.documents()] == sorted(documents)


def test_owners_are_people_whom_others_name(documents: dict[str, Document], texts: dict[str, str]) -> None:
    owners = {name: d.provenance.owner for name, d in documents.items() if d.provenance.tenant == "default"}
    for owner in set(owners.values()):
        assert any(owner in text and owners.get(name) != owner for name, text in texts.items()), owner
    heads = re.findall(r"\| (\d+) \|", texts["people/who-is-who.md"])
    assert sum(map(int, heads)) == 35 and "35 people" in texts["people/welcome.md"]


def test_classifications_and_tenants_are_as_documented(documents: dict[str, Document]) -> None:
    levels = {name: d.provenance.classification for name, d in documents.items()}
    assert {name: level for name, level in levels.items() if level in ("confidential", "restricted")} == LIMITED
    assert Counter(levels.values())["public"] == 7
    tenants = {name: d.provenance.tenant for name, d in documents.items()}
    assert Counter(tenants.values()) == {"default": 64, TENANT: 3}
    assert all((tenant == TENANT) == name.startswith("customers/") for name, tenant in tenants.items())


def test_stale_pages_are_years_older_than_what_replaces_them(documents: dict[str, Document]) -> None:
    for old, new in [*STALE.items(), STALE_RUNBOOK]:
        before, after = documents[old].provenance, documents[new].provenance
        assert 2 * 365 < (after.updated - before.updated).days <= 4 * 366, old
        assert float(before.version) < float(after.version)
        assert old == STALE_RUNBOOK[0] or before.title == after.title


def test_the_notes_name_what_is_wrong(examples: list[Example]) -> None:
    notes = (LESSONS / "handbook.md").read_text(encoding="utf-8")
    pairs = [source for example in of_kind(examples, "contradicting") for source in example.relevant]
    for name in (*STALE, *STALE.values(), *STALE_RUNBOOK, POISONED, PERSONAL, LEAKED, *LIMITED, *pairs):
        assert f"`{name}`" in notes, name
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", notes, re.MULTILINE))
    assert {name: int(count) for name, count in rows.items()} == KINDS


def test_there_are_as_many_questions_of_each_kind_as_documented(examples: list[Example]) -> None:
    assert Counter(map(kind, examples)) == KINDS and sum(KINDS.values()) == 60


def test_answers_stand_in_their_sources(examples: list[Example], texts: dict[str, str]) -> None:
    for example in examples:
        if kind(example) != "unanswerable":
            assert example.answers and example.relevant
            sources = [texts[name] for name in example.relevant]
            assert all(any(answer in text for text in sources) for answer in example.answers), example.id


def test_unanswerable_questions_ask_for_what_no_page_says(examples: list[Example], texts: dict[str, str]) -> None:
    asked = of_kind(examples, "unanswerable")
    assert {example.id for example in asked} == set(UNSAID)
    for example in asked:
        assert example.answers == (REFUSAL,) and not example.relevant
        assert not any(answer in text for answer in example.answers for text in texts.values())
        naming = [name for name, text in texts.items() if re.search(UNSAID[example.id], text, re.IGNORECASE)]
        assert not naming, f"{example.id}: {naming}"


def test_stale_answers_are_in_the_new_page_only(examples: list[Example], texts: dict[str, str]) -> None:
    replaced = {new: old for old, new in [*STALE.items(), STALE_RUNBOOK]}
    asked = of_kind(examples, "stale")
    assert {name for example in asked for name in example.relevant} == set(replaced)
    for example in asked:
        (new,) = example.relevant
        assert not any(answer in texts[replaced[new]] for answer in example.answers), example.id


def test_contradicting_pages_have_the_same_age_and_other_owners(
    examples: list[Example], documents: dict[str, Document], texts: dict[str, str]
) -> None:
    for example in of_kind(examples, "contradicting"):
        one, other = (documents[name].provenance for name in example.relevant)
        assert one.owner != other.owner and abs((one.updated - other.updated).days) < 31, example.id
        here, there = ([answer in texts[name] for answer in example.answers] for name in example.relevant)
        assert here == [True, False] and there == [False, True], example.id


def test_two_documents_are_needed_for_an_answer(
    examples: list[Example], documents: dict[str, Document], texts: dict[str, str]
) -> None:
    for example in of_kind(examples, "two-documents"):
        assert len(example.relevant) == 2, example.id
        first = next(iter(example.relevant))
        shown = f"{texts[first]} {documents[first].provenance.owner}"  # the owner stands above what the model reads
        assert not any(answer in shown for answer in example.answers), example.id


def test_at_least_half_of_the_questions_use_other_words(examples: list[Example], texts: dict[str, str]) -> None:
    answerable = [example for example in examples if example.relevant]
    others = 0
    for example in answerable:
        asked, said = content_words(example.question), content_words(" ".join(texts[n] for n in example.relevant))
        others += len(asked - said) >= 0.4 * len(asked)
    assert others >= len(answerable) / 2


def test_words_find_plain_questions_and_fail_reworded_ones(index: Index, examples: list[Example]) -> None:
    shares = {}
    for name in ("plain", "reworded"):
        asked = of_kind(examples, name)
        shares[name] = sum(bool(example.relevant.keys() & set(found(index, example.question))) for example in asked)
    assert shares["plain"] >= 11  # of 12; all were found
    assert shares["reworded"] <= 6  # of 11; 4 were found: what is left for a search by meaning


def test_words_put_the_stale_runbook_before_the_right_one(index: Index, examples: list[Example]) -> None:
    example = next(example for example in of_kind(examples, "stale") if STALE_RUNBOOK[1] in example.relevant)
    names = found(index, example.question)
    assert names[0] == STALE_RUNBOOK[0] and STALE_RUNBOOK[1] in names


def test_stale_pages_are_found_beside_the_right_ones(index: Index, examples: list[Example]) -> None:
    replaced = {new: old for old, new in STALE.items()} | {STALE_RUNBOOK[1]: STALE_RUNBOOK[0]}
    first = 0
    for example in of_kind(examples, "stale"):
        (new,) = example.relevant
        names = found(index, example.question)
        assert new in names and replaced[new] in names, example.id
        first += names.index(replaced[new]) < names.index(new)
    assert first >= 5  # of 7; 6 were


def test_the_poison_is_found_with_the_right_page(index: Index, examples: list[Example], texts: dict[str, str]) -> None:
    for example in of_kind(examples, "poisoned"):
        assert {POISONED, *example.relevant} <= set(found(index, example.question)), example.id
        assert not any(answer in texts[POISONED] for answer in example.answers)
    assert [name for name, text in texts.items() if "assistant" in text.lower()] == [POISONED]


def test_only_those_with_a_clearance_find_what_is_confidential(index: Index, examples: list[Example]) -> None:
    for example in of_kind(examples, "confidential"):
        (name,) = example.relevant
        cleared = Filters(clearance=LIMITED[name])
        assert name in found(index, example.question, cleared), example.id
        assert name not in found(index, example.question, k=50), example.id


def test_only_the_tenant_finds_what_is_its_own(index: Index, examples: list[Example]) -> None:
    for example in of_kind(examples, "other-tenant"):
        (name,) = example.relevant
        assert name in found(index, example.question, Filters(TENANT, clearance="confidential")), example.id
        assert name not in found(index, example.question, Filters(clearance="restricted"), k=50), example.id


def test_redaction_takes_out_what_was_left_in_two_pages_and_nothing_else(texts: dict[str, str]) -> None:
    counts = {}
    for name, text in texts.items():
        redactions = Redactions()
        Redactor().redact(text, redactions)
        if redactions.counts:
            counts[name] = redactions.counts
    assert counts == {PERSONAL: {"e-mail": 2, "IBAN": 1, "phone": 2}, LEAKED: {"key": 1}}
