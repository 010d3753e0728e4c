"""Vectors and answers from real servers: the tiny model, the real encoder, and what the environment names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openai
import pytest
import torch
from rag_files import document

from minillm import LLM, EmbeddingModel
from minillm.rag import Answerer, Connection, Embedder, Index, PythonModule, RagError, ServerError
from minillm.rag.prompt import REFUSAL
from minillm.server import LocalServer

MINILM = "all-minilm-l6-v2"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads only wait for each other, where others want the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MINILLM_MODEL", "MINILLM_EMBEDDING_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def minilm() -> EmbeddingModel:
    return EmbeddingModel(MINILM, device="cpu")


@pytest.fixture(scope="module")
def server(tiny: LLM, minilm: EmbeddingModel) -> Iterator[LocalServer]:
    with LocalServer(tiny, embedding_model=minilm) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as connected:
        yield connected


def test_vectors_are_the_models(client: openai.OpenAI, minilm: EmbeddingModel) -> None:
    texts = ["A cat sleeps.", "Zürich 東京 🙂", ""]
    vectors = Embedder(client, MINILM).embed(texts)
    np.testing.assert_allclose(vectors, minilm.embed(texts), atol=1e-6)
    assert vectors.dtype == np.float32
    assert Embedder(client, MINILM).embed([]).shape[0] == 0


def test_a_text_that_is_too_long_is_embedded_in_parts(client: openai.OpenAI, minilm: EmbeddingModel) -> None:
    first, second = "A cat sleeps on the mat. " * 25, "Interest rates have risen. " * 25
    long = (first + second).strip()
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MINILM, input=[long])
    vectors = Embedder(client, MINILM).embed(["A cat sleeps.", long, "Rates rose."])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[[0, 2]], minilm.embed(["A cat sleeps.", "Rates rose."]), atol=1e-6)
    # Both halves are in it: it's nearer to each than the two are to each other.
    assert min(vectors[1] @ vectors[0], vectors[1] @ vectors[2]) > vectors[0] @ vectors[2] + 0.1


def test_a_model_that_is_not_served_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(ServerError, match=r"no embeddings with the model 'other'.*--embedding-model"):
        Embedder(client, "other").embed(["a"])


def test_meaning_is_found_without_the_words(client: openai.OpenAI) -> None:
    embedder = Embedder(client, MINILM)
    with Index(":memory:", embedder) as index:
        report = index.add([PythonModule(name) for name in ("shutil", "heapq", "textwrap", "colorsys")])
        assert report.embedded > 50
        [best, *_] = index.search("how much free space is left on my drive?", 3, mode="vectors")
        assert best.chunk.heading.endswith("shutil.disk_usage")
        [best, *_] = index.search("smallest things of a list", 3)
        assert "nsmallest" in best.chunk.heading


def test_a_model_that_says_anything_is_refused(client: openai.OpenAI, tiny: LLM) -> None:
    with Index(":memory:", Embedder(client, MINILM)) as index:
        index.add([document("leave", "Everybody has 25 days of leave.", title="Leave")])
        answer = Answerer(index, client, tiny.model_name, max_tokens=20).answer("How many days?")
    assert answer.refused
    assert answer.text == REFUSAL
    assert answer.draft not in ("", REFUSAL)  # random weights have something to say
    assert answer.sources[0].provenance.source == "leave"


def test_the_environment_names_server_and_models(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    with Connection() as connection:
        with pytest.raises(RagError, match="MINILLM_MODEL"):
            _ = connection.model
        with pytest.raises(RagError, match="MINILLM_EMBEDDING_MODEL"):
            _ = connection.embedding_model
        monkeypatch.setenv("MINILLM_MODEL", "tiny-random")
        monkeypatch.setenv("MINILLM_EMBEDDING_MODEL", MINILM)
        assert (connection.model, connection.embedding_model) == ("tiny-random", MINILM)
        assert Embedder(connection.client, connection.embedding_model).embed(["a"]).shape == (1, 384)


def test_this_machines_server_says_itself_what_it_has(
    server: LocalServer, tiny: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minillm.rag.connection.LOCAL", server.base_url)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    with Connection() as connection:
        assert (connection.model, connection.embedding_model) == ("tiny-random", MINILM)
    with LocalServer(tiny) as without:
        monkeypatch.setattr("minillm.rag.connection.LOCAL", without.base_url)
        with Connection() as connection, pytest.raises(ServerError, match="has no model that embeds"):
            _ = connection.embedding_model
