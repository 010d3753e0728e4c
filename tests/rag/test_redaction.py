"""Secrets are taken out, and what only looks like them stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.rag import RagError, Redactor
from minillm.rag.redaction import KINDS, Redactions

# Put together here, so that no scanner of this repository takes them for real ones.
SECRETS = {
    "private key": ["-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----"],
    "token": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln" + "bmF0dXJl"],
    "key": [
        "sk-" + "a1B2" * 8,
        "sk-proj-" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "AKIA" + "ABCD" * 4,
        "xoxb-" + "1234567890-abc",
        "hf_" + "aBcD" * 8,
        "AIza" + "x" * 35,
    ],
    "e-mail": ["ann@example.com", "a.b+c@sub.example.co.uk", "x_y-z@münchen.example.org".replace("ü", "u")],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "PL61 1090 1014 0000 0712 1981 2874"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
    "phone": ["+49 30 1234567", "+1 (555) 123-4567", "+447911123456", "(555) 123-4567", "555-123-4567"],
}


@pytest.mark.parametrize(("kind", "secret"), [(kind, secret) for kind, some in SECRETS.items() for secret in some])
@pytest.mark.parametrize("around", ["It is {}, they say.", "{}", "x: {}\nand more", "({})", "{} were paid in 2026."])
def test_a_secret_is_taken_out_whole_and_nothing_else(kind: str, secret: str, around: str) -> None:
    assert Redactor().redact(around.format(secret)) == around.format(f"<{kind} A>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password: hunter22", "password: <password A>"),
        ('API_KEY = "abcd1234"', 'API_KEY = "<password A>"'),
        ("the passphrase is correcthorse, ok", "the passphrase is <password A>, ok"),
        ("postgres://bob:s3cr3t@db.example/x", "postgres://bob:<password A>@db.example/x"),
        ("Authorization: Bearer abcdefghijklmnop1234", "Authorization: Bearer <token A>"),
        ("tel. 030 1234567.", "tel. <phone A>."),
        ("Call 0171/2345678 now", "Call <phone A> now"),
        ("client_secret=xyz98765&a=1", "client_secret=<password A>"),
    ],
)
def test_what_follows_its_name_is_taken_out(text: str, expected: str) -> None:
    assert Redactor().redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "On 2026-03-12 at 10:45 we shipped 1,234,567 units for 4.2 %.",
        "Python 3.11.7, RFC 7519, 192.168.100.200, page 12-34",
        "Order 4111 1111 1111 1112 isn't a card, GB82 WEST 1234 5698 7654 33 no IBAN.",
        "0000 0000 0000 0000",
        "user@localhost, @ann, a @ b, decorators like @property",
        "The password is required. Secrets: see the vault. task-force and risk-averse",
        "call 911, phone 12",
        "550e8400-e29b-41d4-a716-446655440000",
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    kinds = tuple(kind for kind in KINDS if kind != "password")
    assert Redactor(kinds if "password" in text else KINDS).redact(text) == text


def test_the_same_value_has_the_same_name_in_all_texts() -> None:
    redactions, redactor = Redactions(), Redactor()
    first = redactor.redact("ann@example.com and bob@example.com", redactions)
    second = redactor.redact("bob@example.com, +49 30 1234567", redactions)
    assert (first, second) == ("<e-mail A> and <e-mail B>", "<e-mail B>, <phone A>")
    assert redactions.counts == {"e-mail": 2, "phone": 1}


def test_kinds_can_be_chosen() -> None:
    text = "ann@example.com +49 30 1234567"
    assert Redactor(["phone"]).redact(text) == "ann@example.com <phone A>"
    assert Redactor([]).redact(text) == text
    with pytest.raises(RagError, match="no name to redact"):
        Redactor(["name"])


def test_names_go_on_after_z() -> None:
    redacted = Redactor().redact(" ".join(f"user{n}@example.com" for n in range(30)))
    assert redacted.endswith("<e-mail Z> <e-mail AA> <e-mail AB> <e-mail AC> <e-mail AD>")


@given(
    st.text(st.characters(exclude_categories=["N", "Cs"]), max_size=200),
    st.sampled_from([secret for some in SECRETS.values() for secret in some]),
)
def test_redacting_again_changes_nothing(text: str, secret: str) -> None:
    once = Redactor().redact(f"{text} {secret} {text}")
    assert secret not in once or secret in text
    assert Redactor().redact(once) == once


@pytest.mark.parametrize(
    "unit", ["+1", "+1 ", "1 ", "a@", "a.", "-----BEGIN PRIVATE KEY-----", "password", "DE89 ", "sk-", "eyJ", "tel 1"]
)
def test_no_text_makes_it_slow(unit: str) -> None:
    """The time grows with the length, and not with its square: ten times the text in less than fifty times the time."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        start = time.process_time()
        Redactor().redact(text)
        return time.process_time() - start

    assert seconds(40_000) < 50 * max(seconds(4_000), 0.002)
