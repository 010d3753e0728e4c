"""Numbers, words and labels: when a citation holds."""

from __future__ import annotations

import pytest

from minillm.rag import RagError, SupportCheck
from minillm.rag.citations import check_answer, split_answer
from minillm.rag.words import content_words, negates, numbers

RATES = (
    "Rates (Ann, 2026-01-02)\nThe monthly rate for storage is 4.2 % of the price. Pay by 1 March. Three days' grace."
)
LEAVE = "Leave (Bob, 2025-05-06)\nEverybody has 25 days of leave a year. It's not paid out."


def checked(text: str) -> list[tuple[str, tuple[int, ...], bool]]:
    return [(each.text, each.cited, each.by_model) for each in check_answer(text, [RATES, LEAVE], SupportCheck())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 4.2 %. [1]", [("It is 4.2 %.", (1,))]),
        ("It is 4.2 % [1].", [("It is 4.2 %.", (1,))]),
        ("One [1]. Two. [2, 3] Three", [("One.", (1,)), ("Two.", (2, 3)), ("Three", ())]),
        ("Aa.[1][2] Bb! [3]", [("Aa.", (1, 2)), ("Bb!", (3,))]),
        ("Ask Dr. Smith, e.g. today. [1]", [("Ask Dr. Smith, e.g. today.", (1,))]),
        ("- one\n- two [2]\n\n[1]", [("- one", ()), ("- two", (2, 1))]),
        ("Version 1.2.3 is out", [("Version 1.2.3 is out", ())]),
        ("[1] says so.", [("says so.", (1,))]),
        ("", []),
        ("[1]", []),
    ],
)
def test_an_answer_is_split_into_sentences_with_their_labels(
    text: str, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    assert split_answer(text) == expected


def test_a_citation_holds_if_the_source_has_words_and_numbers() -> None:
    assert checked("The rate is 4.2 % a month. [1]") == [("The rate is 4.2 % a month.", (1,), True)]
    assert checked("There are 25 days of leave. [2]") == [("There are 25 days of leave.", (2,), True)]


def test_a_wrong_number_is_not_supported_by_any_share_of_words() -> None:
    assert checked("The monthly rate for storage is 4.3 % of the price. [1]")[0][1] == ()
    assert checked("Everybody has 25 days of leave and 1 month's pay. [2]")[0][1] == ()


def test_a_source_that_is_not_there_is_no_support() -> None:
    assert checked("Everybody likes parrots. [7]") == [("Everybody likes parrots.", (), False)]


def test_a_wrong_label_gives_way_to_the_source_that_supports_the_sentence() -> None:
    for label in ("[1]", "[7]", ""):
        assert checked(f"Everybody has 25 days of leave. {label}") == [("Everybody has 25 days of leave.", (2,), False)]


def test_a_label_that_shares_no_word_is_taken_off() -> None:
    assert checked("Leave is 25 a year. [1, 2]") == [("Leave is 25 a year.", (2,), True)]


def test_two_sources_may_support_a_sentence_together() -> None:
    assert checked("The rate is 4.2 %, and leave is 25 days. [1][2]") == [
        ("The rate is 4.2 %, and leave is 25 days.", (1, 2), True)
    ]


def test_a_not_that_no_source_has_is_not_supported() -> None:
    assert checked("The rate for storage isn't paid. [1]")[0][1] == ()
    assert checked("Leave is not paid out. [2]")[0][1] == (2,)


def test_words_for_small_numbers_are_numbers() -> None:
    assert checked("There are 3 days of grace. [1]")[0][1] == (1,)
    assert checked("There are four days of grace. [1]")[0][1] == (1,)  # a word among words, and the others are there


def test_what_is_in_the_title_counts() -> None:
    assert checked("Ann, on 2026-01-02. [1]")[0][1] == (1,)


def test_a_sentence_without_content_can_not_be_checked() -> None:
    assert checked("It is so. [1]")[0][1:] == ((), False)


def test_the_share_is_what_the_check_says() -> None:
    check = SupportCheck(0.75)
    assert check.support("storage price parrot rate", [RATES]) == 0.75
    assert check_answer("storage price parrot rate [1]", [RATES], check)[0].cited == (1,)
    assert check_answer("storage price parrot rate [1]", [RATES], SupportCheck(0.76))[0].cited == ()
    with pytest.raises(RagError, match="more than 0"):
        SupportCheck(0)


def test_it_is_written_with_its_labels() -> None:
    assert [str(each) for each in check_answer("It's 4.2 % of the price and 25 days of leave [1, 2].", [RATES, LEAVE],
                                               SupportCheck())] == [
        "It's 4.2 % of the price and 25 days of leave. [1][2]"
    ]  # fmt: skip


def test_numbers_are_the_same_however_they_are_written() -> None:
    assert numbers("1,000 1'000 1000 01000") == {"1000"}
    assert numbers("4,2 and 4.2") == {"4.2"}
    assert numbers("1.234.567,8") == {"1234567.8"}
    assert numbers("1,234,567.8") == {"1234567.8"}
    assert numbers("1.000") == {"1.000"}
    assert numbers("2026-03-12, v1.2.3, Q3, ٣") >= {"2026", "3", "12", "1.2.3"}
    assert numbers("0 00") == {"0"}


def test_content_words_meet_in_their_forms() -> None:
    assert content_words("The cities' rates were planned") == content_words("rate, city: plan!")
    assert content_words("Zürich Café") == content_words("zurich cafe")
    assert content_words("the of and") == set()


def test_negations() -> None:
    assert negates("They can't.") and negates("never") and negates("No one")
    assert not negates("Know the note, cannon")
