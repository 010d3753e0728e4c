"""Answers from a server that says what a test tells it to: a real HTTP server in place of a model with opinions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from rag_files import NOW, WordEmbedder, document

from minillm.rag import Answer, Answerer, Budget, Embedder, Filters, Index, RagError, ServerError
from minillm.rag.prompt import INSTRUCTIONS, REFUSAL

RATES = "The monthly rate for storage is 4.2 % of the price."
OLD_RATES = "The monthly rate for storage is 3.9 % of the price."


class Writer:
    """Answers every request for a completion with `text`, and keeps the requests."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        self.requests: list[dict[str, Any]] = []
        writer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                writer.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                message = {"role": "assistant", "content": writer.text}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
                body |= {"choices": [choice]} if writer.status == 200 else {"error": {"message": writer.text}}
                data = json.dumps(body).encode()
                self.send_response(writer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self.client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)

    def stop(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def writer() -> Iterator[Writer]:
    running = Writer()
    yield running
    running.stop()


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(":memory:", WordEmbedder()) as opened:
        opened.add(
            [
                document("rates-2026", RATES, title="Rates", owner="Ann"),
                document("rates-2019", OLD_RATES, title="Rates", updated=NOW - timedelta(days=2500)),
                document("contacts", "For storage write to ann@example.com or +49 30 1234567. [1] says [2, 3]."),
                document("salaries", "The storage manager earns 90000.", classification="restricted"),
            ]
        )
        yield opened


def ask(index: Index, writer: Writer, text: str, question: str = "What is the rate?", **options: Any) -> Answer:
    writer.text = text
    return Answerer(index, writer.client, "m", **options).answer(question, now=NOW)


def test_a_supported_answer_has_its_citations(index: Index, writer: Writer) -> None:
    answer = ask(index, writer, "The rate is 4.2 %. [3]")
    assert (answer.text, answer.refused, answer.reason) == ("The rate is 4.2 %. [3]", False, "")
    [citation] = answer.citations
    assert (citation.number, citation.sentence, citation.by_model) == (3, "The rate is 4.2 %.", True)
    assert answer.sources[2].provenance.source == "rates-2026"
    assert answer.support == citation.support == 1.0
    assert answer.stale == ()


def test_the_prompt_has_what_stays_the_same_first(index: Index, writer: Writer) -> None:
    first = ask(index, writer, REFUSAL, "What is the storage rate?")
    second = ask(index, writer, REFUSAL, "Write: which price, which storage, which rate?")
    system, user = (message["content"] for message in first.messages)
    assert writer.requests[0]["messages"] == first.messages
    assert system == INSTRUCTIONS
    assert user.startswith("Sources:\n\n[1] contacts (somebody, 2026-06-01)\nFor storage write to")
    assert f"\n\n[3] Rates (Ann, 2026-06-01)\n{RATES}\n\nQuestion: What is the storage rate?" in user
    before = user.partition("Question: ")[0]
    assert second.messages[1]["content"].startswith(before)  # whatever the order that they were found in


def test_no_secret_and_no_forged_label_reaches_the_model(index: Index, writer: Writer) -> None:
    answer = ask(index, writer, "Write to <e-mail A>. [1]", "Does ann@example.com do storage? I'm bob@example.com")
    sent = json.dumps(writer.requests)
    assert "ann@example.com" not in sent and "1234567" not in sent and "bob@example.com" not in sent
    assert "<e-mail A> or <phone A>. (1) says (2, 3)." in sent
    assert "Question: Does <e-mail A> do storage? I'm <e-mail B>" in answer.messages[1]["content"]
    assert answer.redacted == {"e-mail": 2, "phone": 1}
    assert answer.text == "Write to <e-mail A>. [1]"
    assert "ann@example.com" in answer.sources[0].chunk.text


def test_what_is_classified_reaches_nobody_without_clearance(index: Index, writer: Writer) -> None:
    question = "What does the storage manager earn?"
    answer = ask(index, writer, "The manager earns 90000. [4]", question)
    assert answer.text == REFUSAL
    assert "90000" not in json.dumps(writer.requests)
    cleared = Answerer(index, writer.client, "m").answer(question, filters=Filters(clearance="restricted"), now=NOW)
    assert cleared.text == "The manager earns 90000. [4]"


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (REFUSAL, "no answer in the sources"),
        ("I don’t know.", "no answer in the sources"),
        ("The rate is 5 %. [3]", "no source supports"),
        ("Parrots are green.", "no source supports"),
        ("", "no source supports"),
        ("[1]", "no source supports"),
    ],
)
def test_what_nothing_supports_is_refused(index: Index, writer: Writer, draft: str, reason: str) -> None:
    answer = ask(index, writer, draft)
    assert (answer.text, answer.refused, answer.citations, answer.support) == (REFUSAL, True, (), 0.0)
    assert reason in answer.reason
    assert answer.draft == draft


def test_where_nothing_is_found_the_model_is_not_asked(writer: Writer) -> None:
    with Index(":memory:", WordEmbedder()) as empty:
        answer = ask(empty, writer, "Anything.")
    assert (answer.text, answer.refused, answer.reason) == (REFUSAL, True, "nothing was found")
    assert writer.requests == []


def test_sentences_without_support_are_left_out(index: Index, writer: Writer) -> None:
    answer = ask(index, writer, "The rate is 4.2 %. [3] It doubles in May. [3]")
    assert answer.text == "The rate is 4.2 %. [3]"
    assert answer.unsupported == ("It doubles in May.",)


def test_old_truth_is_said_to_be_old(index: Index, writer: Writer) -> None:
    answer = ask(index, writer, "The rate is 3.9 %. [2]")
    assert answer.text == "The rate is 3.9 %. [2] (Old: [2] is from 2019-07-28.)"
    assert [hit.provenance.source for hit in answer.stale] == ["rates-2019"]
    assert ask(index, writer, "The rate is 3.9 %. [2]", budgets=[Budget(warn_after=None)]).stale == ()


def test_what_is_too_old_is_not_used(index: Index, writer: Writer) -> None:
    budgets = [Budget(refuse_after=timedelta(days=2000), sources="rates-*")]
    answer = ask(index, writer, "The rate is 3.9 %. [2]", budgets=budgets)
    assert answer.refused
    assert "too old to be used: rates-2019 (2019-07-28)" in answer.reason
    assert "3.9" not in json.dumps(writer.requests)
    assert not ask(index, writer, "The rate is 4.2 %.", budgets=budgets).refused


def test_where_all_is_too_old_the_model_is_not_asked(index: Index, writer: Writer) -> None:
    writer.text = "The rate is 3.9 %. [1]"
    answerer = Answerer(index, writer.client, "m", budgets=[Budget(refuse_after=timedelta(days=400))])
    answer = answerer.answer("What is the rate?", filters=Filters(sources=("rates-2019",)), now=NOW)
    assert answer.reason == "too old to be used: rates-2019 (2019-07-28)"
    assert writer.requests == []


def test_the_first_budget_that_fits_counts(index: Index, writer: Writer) -> None:
    budgets = [Budget(warn_after=None, sources="rates-2019"), Budget(refuse_after=timedelta(days=400))]
    assert ask(index, writer, "The rate is 3.9 %. [2]", budgets=budgets).text == "The rate is 3.9 %. [2]"
    with pytest.raises(RagError, match="can't warn"):
        Budget(warn_after=timedelta(days=2), refuse_after=timedelta(days=1))


def test_sources_fit_the_room_there_is(index: Index, writer: Writer) -> None:
    assert len(ask(index, writer, REFUSAL, k=2).sources) == 2
    assert len(ask(index, writer, REFUSAL, max_source_characters=1).sources) == 1
    assert len(ask(index, writer, REFUSAL, max_source_characters=200).sources) == 2


def test_a_server_that_refuses_or_is_gone(index: Index, writer: Writer) -> None:
    writer.status = 400
    with pytest.raises(ServerError, match="refused to give answer: The prompt is too long"):
        ask(index, writer, "The prompt is too long.")
    with pytest.raises(ServerError, match="refused to give embeddings"):
        Embedder(writer.client, "m").embed(["short", "and long " * 30])
    assert len(writer.requests) < 10  # it's not cut smaller and smaller for ever
    writer.status = 401
    with pytest.raises(ServerError, match="OPENAI_API_KEY"):
        ask(index, writer, "No.")
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0) as nobody,
        pytest.raises(ServerError, match="Start one with: minillm serve --embedding-model all-minilm-l6-v2"),
    ):
        Answerer(index, nobody, "m").answer("What is the rate?")


def test_an_empty_question_is_refused(index: Index, writer: Writer) -> None:
    with pytest.raises(RagError, match="empty"):
        ask(index, writer, "x", "  ")
