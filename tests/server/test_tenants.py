"""Keys, tenants and their limits."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from serving import MODEL, WatchedSampler, connect, wait_until

from minillm.engine import LLM
from minillm.errors import MinillmError
from minillm.server import LocalServer, create_app
from minillm.server.errors import RateLimitedError
from minillm.server.serve import listen
from minillm.server.tenants import Tenant, Tenants

HELLO: list[Any] = [{"role": "user", "content": "Hello, this is a prompt of some length, so that it fills blocks."}]


def keys_file(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- the file ---------------------------------------------------------------------------------------------------


def test_keys_lead_to_their_tenants_plain_or_hashed(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sk-two").hexdigest()
    text = f'[ann]\nkeys = ["sk-one", "sha256:{digest}"]\nmax_requests = 3\n[bob]\nkeys = ["schlüssel"]\n'
    tenants = Tenants.load(keys_file(tmp_path, text))
    ann, bob = tenants.find("sk-one"), tenants.find("schlüssel")
    assert ann is not None
    assert bob is not None
    assert tenants.find("sk-two") is ann
    assert (ann.name, ann.max_requests, ann.tokens_per_minute) == ("ann", 3, None)
    assert (bob.name, bob.max_requests) == ("bob", None)
    for wrong in (None, "", "sk-on", "sk-one ", "SK-ONE", f"sha256:{digest}", digest, "ann"):
        assert tenants.find(wrong) is None


def test_without_a_file_everybody_is_the_same_tenant() -> None:
    assert Tenants().find(None) is not None
    assert Tenants().find("anything") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ann", "can't be read"),
        ("", "no keys"),
        ("ann = 5", "needs keys"),
        ("[ann]\nmax_requests = 3", "needs keys"),
        ("[ann]\nkeys = []", "needs keys"),
        ('[ann]\nkeys = [""]', "empty"),
        ("[ann]\nkeys = [5]", "not a string"),
        ('[ann]\nkeys = ["sha256:secret"]', "64 hexadecimal"),
        ('[ann]\nkeys = ["secret"]\nmax_request = 3', "max_request"),
        ('[ann]\nkeys = ["secret"]\nmax_requests = 0', "max_requests"),
        ('[ann]\nkeys = ["secret"]\ntokens_per_minute = "many"', "tokens_per_minute"),
        ('[ann]\nkeys = ["secret"]\n[bob]\nkeys = ["secret"]', "twice"),
    ],
)
def test_a_wrong_file_is_refused_without_a_word_of_the_keys(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MinillmError, match=message) as caught:
        Tenants.load(keys_file(tmp_path, text))
    assert "secret" not in str(caught.value)


# -- limits -----------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tokens_come_back_with_time_and_an_overdraft_is_waited_for() -> None:
    clock = Clock()
    tenant = Tenant("ann", tokens_per_minute=60, clock=clock)
    with tenant.request(30):
        tenant.charge(50)  # 20 more than there were
    with pytest.raises(RateLimitedError) as caught, tenant.request(1):
        pass
    assert caught.value.retry_after == pytest.approx(21)
    clock.now += 20.9
    with tenant.request(1):
        pass
    clock.now += 3600
    with tenant.request(60):  # no more than a minute's worth is saved up
        pass
    with pytest.raises(RateLimitedError), tenant.request(1):
        pass


def test_only_so_many_requests_at_once() -> None:
    tenant = Tenant("ann", max_requests=1)
    with tenant.request(1):
        with pytest.raises(RateLimitedError), tenant.request(1):
            pass
        assert tenant.num_requests == 1
    with pytest.raises(KeyError), tenant.request(1):
        raise KeyError
    assert tenant.num_requests == 0


# -- through the server -----------------------------------------------------------------------------------------


def test_only_known_keys_get_in_everywhere_but_at_the_health_check() -> None:
    with LocalServer(LLM(MODEL), tenants=Tenants({"sk-ann": Tenant("ann")})) as server:
        with connect(server, api_key="sk-ann") as ann:
            assert ann.models.list().data
            assert ann.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1).choices
        with connect(server, api_key="sk-eve") as eve, pytest.raises(openai.AuthenticationError) as caught:
            eve.chat.completions.create(model=MODEL, messages=HELLO)
        body: Any = caught.value.body
        assert body["code"] == "invalid_api_key"
        assert "sk-eve" not in str(body)
        root = server.base_url.removesuffix("/v1")
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            assert httpx.get(root + path).status_code == 401
        for path in ("/health", "/ready"):
            assert httpx.get(root + path).status_code == 200
        good = ("Authorization", "Bearer sk-ann")
        for headers in (
            [("Authorization", "sk-ann")],
            [("Authorization", "Basic sk-ann")],
            [("Authorization", "Bearer")],
            [("Authorization", "Bearer sk-ann sk-ann")],
            [good, ("Authorization", "Bearer sk-eve")],
            [good, good],
        ):
            assert httpx.get(root + "/metrics", headers=headers).status_code == 401
        assert httpx.get(root + "/metrics", headers=[("authorization", "bearer sk-ann")]).status_code == 200


def test_one_tenant_never_gets_another_ones_cached_prompt() -> None:
    tenants = Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob")})
    with LocalServer(LLM(MODEL), tenants=tenants) as server:

        def cached(key: str) -> int | None:
            with connect(server, api_key=key) as client:
                usage = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            return usage.prompt_tokens_details.cached_tokens

        assert [cached("sk-ann"), cached("sk-bob")] == [0, 0]
        assert (cached("sk-ann") or 0) > 0


@pytest.mark.parametrize("stream", [True, False])
def test_over_its_limit_a_tenant_gets_a_429_and_others_do_not(stream: bool) -> None:
    ann = Tenant("ann", tokens_per_minute=30)
    with LocalServer(LLM(MODEL), tenants=Tenants({"sk-ann": ann, "sk-bob": Tenant("bob")})) as server:
        request: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 5}
        with connect(server, api_key="sk-ann") as client:
            client.chat.completions.create(**request)
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**request, stream=stream)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert caught.value.body["code"] == "rate_limit_exceeded"  # type: ignore[index]
        with connect(server, api_key="sk-bob") as client:
            assert client.chat.completions.create(**request).choices


def test_requests_in_flight_are_counted_until_they_end_or_their_client_leaves() -> None:
    ann, sampler = Tenant("ann", max_requests=1), WatchedSampler(delay=0.002)
    with LocalServer(LLM(MODEL, sampler=sampler), tenants=Tenants({"sk-ann": ann})) as server:
        request: Any = {"model": MODEL, "messages": HELLO, "extra_body": {"ignore_eos": True}}
        with connect(server, api_key="sk-ann") as client:
            stream = client.chat.completions.create(**request, max_tokens=1500, stream=True)
            next(iter(stream))
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**request, max_tokens=1)
            assert caught.value.response.headers["retry-after"] == "1"
            stream.close()
            assert wait_until(lambda: ann.num_requests == 0)
            assert client.chat.completions.create(**request, max_tokens=1).choices
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**request, max_tokens=1, n=999)
    assert ann.num_requests == 0


def test_a_full_engine_sheds_load_and_charges_nothing_for_it() -> None:
    ann, sampler = Tenant("ann", tokens_per_minute=3, clock=Clock()), WatchedSampler()
    sampler.gate.clear()
    llm = LLM(MODEL, sampler=sampler, max_num_seqs=1, max_num_waiting=1)
    with LocalServer(llm, tenants=Tenants({"sk-ann": ann})) as server, connect(server, api_key="sk-ann") as client:
        body: Any = {"model": MODEL, "prompt": ["a", "b", "c", "d"], "max_tokens": 1}
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(**body)
        assert caught.value.body["code"] == "engine_overloaded"  # type: ignore[index]
        assert caught.value.response.headers["retry-after"] == "1"
        sampler.gate.set()
        assert wait_until(lambda: not llm.engine.has_unfinished)
        assert client.completions.create(**body | {"prompt": "a"}).choices


def test_a_greedy_tenant_does_not_hold_up_the_others() -> None:
    """Ann has forty requests in the queue when Bob comes with one; his turn is the next but few."""
    sampler = WatchedSampler()
    sampler.gate.clear()
    llm = LLM(MODEL, sampler=sampler, max_num_seqs=2)
    tenants = Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob")})
    with LocalServer(llm, tenants=tenants) as server, ThreadPoolExecutor(41) as pool:
        finished: list[str] = []

        def ask(name: str) -> None:
            with connect(server, api_key=f"sk-{name}") as client:
                client.completions.create(model=MODEL, prompt=name, max_tokens=8, extra_body={"ignore_eos": True})
            finished.append(name)

        for _ in range(40):
            pool.submit(ask, "ann")
        assert wait_until(lambda: tenants.find("sk-ann").num_requests == 40)  # type: ignore[union-attr]
        pool.submit(ask, "bob")
        assert wait_until(lambda: tenants.find("sk-bob").num_requests == 1)  # type: ignore[union-attr]
        sampler.gate.set()
    assert finished.index("bob") < 10


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that it takes tells nothing: all digests, in constant time each."""
    compared: list[bytes] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr("minillm.server.tenants.hmac.compare_digest", compare)
    tenants = Tenants({f"sk-{i}": Tenant(str(i)) for i in range(9)})
    for key in ("sk-0", "sk-8", "wrong", None):
        compared.clear()
        tenants.find(key)
        assert len(set(compared)) == 9


def test_while_it_drains_it_says_so_and_takes_nothing_new(tiny: LLM) -> None:
    app = create_app(tiny)
    with TestClient(app) as http:
        assert http.get("/ready").status_code == 200
        app.state.service.close()
        response = http.post("/v1/completions", json={"model": MODEL, "prompt": "x"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["error"]["code"] == "server_stopping"
        assert (http.get("/ready").status_code, http.get("/health").status_code) == (503, 200)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio turns Nagle's algorithm off for sockets that know their protocol, and for no others."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
