"""The playground over HTTP: the page and its parts, and the stream that it draws the engine from."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from serving import MODEL, WatchedSampler, connect, wait_until
from test_serve_command import client_of, serving

from minillm.engine import LLM, AsyncEngine, OutputChunk
from minillm.engine.view import EngineView
from minillm.sampling import SamplingParams
from minillm.server import LocalServer, watch
from minillm.server.generation import Service
from minillm.server.playground import PAGE_PATHS
from minillm.server.tenants import Tenant, Tenants

SECRET = "The secret of the lighthouse is a second lamp behind the first one, and nobody has ever told."
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": SECRET}],
    "max_tokens": 40,
    "extra_body": {"ignore_eos": True},
}


def two_tenants() -> Tenants:
    return Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob")})


@dataclass
class Mirror:
    """What a page knows after some events, put together as the page does it."""

    tables: dict[str, list[int]] = field(default_factory=dict)
    cached: dict[int, str] = field(default_factory=dict)
    others_used: set[int] = field(default_factory=set)
    others_cached: set[int] = field(default_factory=set)
    steps: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    raw: str = ""

    def apply(self, text: str) -> None:
        event = json.loads(text)
        if event["full"]:
            vars(self).update(vars(Mirror(raw=self.raw)))
        self.raw, self.last = self.raw + text, event
        before, self.tables = self.tables, {}
        for request in event["requests"]:
            keep, more = request.get("blocks", (None, []))
            self.tables[request["id"]] = before.get(request["id"], [])[:keep] + more
        cached, others = event["cached"], event["others"]
        for block in cached["drop"]:
            del self.cached[block]
        for index, block in enumerate(cached["add"]):
            self.cached[block] = cached["hashes"][8 * index : 8 * index + 8]
        for blocks, change in ((self.others_used, others["used"]), (self.others_cached, others["cached"])):
            assert blocks >= set(change["drop"])
            blocks -= set(change["drop"])
            blocks |= set(change["add"])
        for step in event["steps"]:
            self.steps.append(step | {"who": [(event["ids"][number], *rest) for number, *rest in step["who"]]})


class Watcher:
    """A client of the stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response, self.mirror = response, Mirror()
        self._lines = response.iter_lines()

    def read(self) -> Mirror | None:
        """Takes the next event in; None at the end."""
        for line in self._lines:
            if line:
                assert line.startswith("data: ")
                self.mirror.apply(line.removeprefix("data: "))
                return self.mirror
        return None

    def until(self, condition: Any) -> Mirror:
        """Reads on until the mirror is as wanted."""
        while mirror := self.read():
            if condition(mirror):
                return mirror
        raise AssertionError(f"the stream ended: {self.mirror.last}")


@contextmanager
def watching(server: LocalServer, key: str = "none") -> Iterator[Watcher]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{server.base_url}/engine/steps", headers=headers, timeout=30) as response:
        if response.status_code != 200:
            response.read()
        yield Watcher(response)


def hashes(llm: LLM, tenant: str) -> dict[int, str]:
    """What the engine itself says is cached, as the stream writes it."""
    return {block: digest[:4].hex() for block, digest in llm.engine.kv.cached_blocks().get(tenant, {}).items()}


def tables(llm: LLM, step: dict[str, Any]) -> dict[str, list[int]]:
    """Who had which blocks after a step, by the engine's own trace."""
    (trace,) = (each for each in llm.engine.tracer.steps if each.step == step["n"])
    return {item.request_id: list(item.block_ids) for item in trace.scheduled}


# -- the page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_the_page_and_its_parts_come_from_here_and_load_nothing_from_elsewhere(server: LocalServer, path: str) -> None:
    response = httpx.get(server.url.rstrip("/") + path)
    assert response.status_code == 200
    kinds = {"/": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert response.headers["content-type"].startswith(kinds[path.rpartition(".")[2]])
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("form-action") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert response.headers["x-content-type-options"] == "nosniff"
    foreign = re.findall(r"(?:https?:|wss?:)?//[\w.-]+\.\w+[^\s\"'`]*", response.text)
    assert [url for url in foreign if url != "http://www.w3.org/2000/svg"] == []  # a name, which nobody fetches
    assert not re.search(r"\binnerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", response.text)


def test_everything_that_the_page_refers_to_is_served(server: LocalServer) -> None:
    root = httpx.URL(server.url)
    page = httpx.get(root).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)  # which the policy would block
    wanted = [root.join(link) for link in re.findall(r'(?:src|href)="([^"#]+)"', page)]
    for url in wanted:
        imports = re.findall(r'from "(\./[^"]+)"', httpx.get(url).text)
        wanted += [new for link in imports if (new := url.join(link)) not in wanted]
    assert {url.path for url in wanted} | {"/"} == set(PAGE_PATHS)
    assert {httpx.get(url).status_code for url in wanted} == {200}


def test_only_what_belongs_to_the_page_is_served_and_only_to_read(server: LocalServer) -> None:
    for path in ("playground/", "playground/__init__.py", "playground/..%2fdoor.py", "playground/%2e%2e/door.py"):
        assert httpx.get(server.url + path).status_code == 404
    for path in ("", "playground/playground.js", "v1/engine/steps"):
        assert httpx.post(server.url + path, json={}).status_code == 405
        preflight = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "GET"}
        refused = httpx.options(server.url + path, headers=preflight)
        assert refused.status_code == 405
        assert not any(name.startswith("access-control") for name in refused.headers)


def test_the_page_needs_no_key_and_what_it_shows_does() -> None:
    with LocalServer(LLM(MODEL), tenants=two_tenants()) as server:
        for path in PAGE_PATHS:
            assert httpx.get(server.url.rstrip("/") + path).status_code == 200
        for headers in ({}, {"Authorization": "Bearer sk-eve"}):
            refused = httpx.get(f"{server.base_url}/engine/steps", headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        with watching(server, "sk-ann") as ann:
            assert ann.read() is not None


# -- the stream -------------------------------------------------------------------------------------------------


def test_the_events_add_up_to_what_is_inside_the_engine() -> None:
    sampler = WatchedSampler()
    llm = LLM(MODEL, sampler=sampler, num_blocks=64)
    with LocalServer(llm) as server, connect(server) as client, watching(server) as watcher:
        mirror = watcher.until(lambda mirror: mirror.last["full"])
        assert mirror.last["pool"] == {"total": 63, "block_size": 16}
        assert (mirror.last["steps"], mirror.tables, mirror.cached) == ([], {}, {})
        client.chat.completions.create(**LONG)  # whose prompt the next two can use
        sampler.delay = 0.02
        streams = [client.chat.completions.create(**LONG, stream=True, seed=seed) for seed in range(2)]
        names = {stream.response.headers["x-request-id"] for stream in streams}
        now = watcher.until(lambda mirror: mirror.tables.keys() == names and len(mirror.steps) > 45)
        assert now.tables == tables(llm, now.steps[-1])
        assert len(set.intersection(*(set(blocks) for blocks in now.tables.values()))) >= 3  # of the prompt
        assert {request["cached"] >= 48 for request in now.last["requests"]} == {True}
        for stream in streams:
            assert len(list(stream)) > 10
        mirror = watcher.until(lambda mirror: mirror.last["metrics"]["finished"] == 3)
        mirror = watcher.until(lambda mirror: not mirror.tables)
        assert mirror.cached == hashes(llm, "")
        assert mirror.last["metrics"]["used"] == 0
        assert mirror.last["metrics"]["generated"] == 3 * 40
        assert [step["n"] for step in mirror.steps] == sorted({step["n"] for step in mirror.steps})
        parts = [part for step in mirror.steps for part in step["who"]]
        assert {name for name, *_ in parts} >= names
        assert sum(tokens for _, tokens, *_ in parts) == llm.engine.metrics.snapshot().computed_tokens
        assert {is_decode for _, _, is_decode, _ in parts} == {0, 1}
        with watching(server) as late:  # who comes later is told the same
            late.read()
            assert late.mirror.cached == mirror.cached
            assert [step["n"] for step in late.mirror.steps] == [step["n"] for step in mirror.steps][-watch.MAX_STEPS :]


def test_evicted_blocks_get_their_new_hashes() -> None:
    llm = LLM(MODEL, num_blocks=16)
    with LocalServer(llm) as server, connect(server) as client, watching(server) as watcher:
        for round in range(6):
            client.completions.create(model=MODEL, prompt=f"{round}: {SECRET}", max_tokens=20)
            expected = hashes(llm, "")
            watcher.until(lambda mirror, expected=expected: mirror.cached == expected and not mirror.tables)


def test_preemption_is_told() -> None:
    llm = LLM(MODEL, num_blocks=22)
    with LocalServer(llm) as server, connect(server) as client, watching(server) as watcher:
        watcher.read()
        body: Any = {"model": MODEL, "prompt": [SECRET, SECRET[::-1]], "max_tokens": 120}
        client.completions.create(**body, extra_body={"ignore_eos": True})
        mirror = watcher.until(lambda mirror: mirror.last["metrics"]["finished"] == 2)
        assert mirror.last["metrics"]["preemptions"] > 0
        told = [step["preempted"] for step in mirror.steps if step["preempted"] != [[], 0]]
        assert told
        assert all(numbers and others == 0 for numbers, others in told)


def test_a_tenant_sees_its_own_and_of_others_only_how_much() -> None:
    sampler = WatchedSampler(delay=0.01)
    llm = LLM(MODEL, sampler=sampler)
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(llm, tenants=two_tenants()))
        ann, bob = (stack.enter_context(connect(server, api_key=key)) for key in ("sk-ann", "sk-bob"))
        watchers = {key: stack.enter_context(watching(server, key)) for key in ("sk-ann", "sk-bob")}
        for watcher in watchers.values():
            watcher.read()
        mine: Any = LONG | {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 150}
        of_ann = ann.chat.completions.create(**mine, stream=True)
        of_bob = bob.chat.completions.create(**LONG | {"max_tokens": 150}, stream=True)
        name_of_ann, name_of_bob = (each.response.headers["x-request-id"] for each in (of_ann, of_bob))
        seen = watchers["sk-ann"].until(lambda mirror: mirror.tables and mirror.others_used and mirror.others_cached)
        expected = tables(llm, seen.steps[-1])
        assert seen.tables == {name_of_ann: expected[name_of_ann]}
        assert seen.others_used == set(expected[name_of_bob])
        assert seen.others_used >= seen.others_cached
        assert seen.last["others"]["running"] == 1
        assert any(step["others"][0] == 1 and step["others"][1] > 20 for step in seen.steps)  # the prompt, as a number
        assert len(list(of_ann)) + len(list(of_bob)) > 20
        for watcher in watchers.values():
            watcher.until(lambda mirror: mirror.last["metrics"]["finished"] == 2 and not mirror.tables)
        assert watchers["sk-ann"].mirror.others_cached == set(hashes(llm, "bob"))
    texts = {key: watcher.mirror.raw for key, watcher in watchers.items()}
    for key, own, other, name in (("sk-ann", "ann", "bob", name_of_bob), ("sk-bob", "bob", "ann", name_of_ann)):
        assert name not in texts[key]
        assert other not in texts[key]
        assert "secret" not in texts[key]
        assert watchers[key].mirror.cached == hashes(llm, own)
        assert hashes(llm, other)
        assert not any(digest in texts[key] for digest in hashes(llm, other).values())


def test_only_so_many_may_watch_and_who_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WATCHERS_PER_TENANT", 2)
    with LocalServer(LLM(MODEL), tenants=two_tenants()) as server, ExitStack() as stack:

        def status(key: str) -> int:
            with watching(server, key) as watcher:
                return watcher.response.status_code

        with watching(server, "sk-ann") as first:
            first.read()
            second = stack.enter_context(watching(server, "sk-ann"))
            second.read()
            with watching(server, "sk-ann") as refused:
                assert refused.response.status_code == 429
                assert int(refused.response.headers["retry-after"]) >= 1
                assert "watch" in refused.response.json()["error"]["message"]
            assert status("sk-bob") == 200
        assert wait_until(lambda: status("sk-ann") == 200)
        monkeypatch.setattr(watch, "MAX_WATCHERS", 1)
        assert status("sk-bob") == 429


def test_the_engine_is_left_alone_when_nobody_watches() -> None:
    llm = LLM(MODEL)
    looks: list[object] = []
    inspect = llm.engine.inspect

    def counted(observer: Any) -> None:
        looks.append(observer)
        inspect(observer)

    llm.engine.inspect = counted  # type: ignore[method-assign]
    with LocalServer(llm) as server:
        with watching(server) as one, watching(server) as other:
            one.read()
            other.read()
            assert wait_until(lambda: len(looks) > 3)

        def stopped() -> bool:
            before = len(looks)
            return not wait_until(lambda: len(looks) > before, 4 * watch.INTERVAL)

        assert wait_until(stopped)


def test_a_reader_that_does_not_read_misses_what_happens_and_then_sees_what_is() -> None:
    llm = LLM(MODEL)

    async def run() -> tuple[Mirror, int]:
        service = Service(llm)
        service.open()
        assert isinstance(service.engine, AsyncEngine)
        watched, mirror = watch.Watch(service), Mirror()
        slow, quick = watched.events(""), watched.events("")
        mirror.apply(await anext(slow))
        async for event in service.engine.generate([65] * 40, SamplingParams(max_tokens=150, ignore_eos=True)):
            assert isinstance(event, OutputChunk) or event.finish_reason == "length"
        while json.loads(await anext(quick))["metrics"]["finished"] == 0:
            pass
        mirror.apply(await anext(slow))
        for events in (slow, quick):
            await events.aclose()
        assert not watched.num_watchers
        await asyncio.to_thread(service.close)
        return mirror, watched.num_watchers.total()

    mirror, left = asyncio.run(run())
    assert left == 0
    assert mirror.cached == hashes(llm, "")
    assert len(mirror.steps) == watch.MAX_STEPS
    assert mirror.last["skipped"] == 150 - watch.MAX_STEPS


def test_looking_never_takes_a_large_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where telling takes long, looks become rare; by a clock that runs as if each event took a second."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(watch.time, "perf_counter", lambda: float(next(ticks)))
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(watch.asyncio, "sleep", noted)

    async def run() -> None:
        service = Service(LLM(MODEL))
        service.open()
        events = watch.Watch(service).events("")
        await anext(events)
        await anext(events)
        await events.aclose()
        await asyncio.to_thread(service.close)

    asyncio.run(run())
    assert max(pauses) >= 1 / watch.MAX_SHARE


def test_a_failure_of_looking_ends_the_streams_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = LLM(MODEL)
    with LocalServer(llm) as server:

        def broken(self: object, number: int, view: EngineView) -> None:
            raise RuntimeError("it broke")

        with monkeypatch.context() as patched:
            patched.setattr(watch.Watch, "_take", broken)
            with watching(server) as watcher:
                assert watcher.response.status_code == 500
                assert "it broke" not in watcher.response.text
        with watching(server) as watcher, connect(server) as client:
            assert watcher.read() is not None
            assert client.chat.completions.create(**LONG).choices


# -- the end ----------------------------------------------------------------------------------------------------


def test_draining_is_told_and_then_the_stream_ends() -> None:
    sampler = WatchedSampler(delay=0.01)
    llm = LLM(MODEL, sampler=sampler)
    with LocalServer(llm) as server, connect(server) as client, watching(server) as watcher:
        stream = client.chat.completions.create(**LONG | {"max_tokens": 200}, stream=True)
        next(iter(stream))
        closing = threading.Thread(target=server._app.state.service.close, args=(60,))
        closing.start()
        draining = watcher.until(lambda mirror: mirror.last["draining"])
        assert draining.tables
        assert len(list(stream)) > 20  # it's complete all the same
        while watcher.read():
            pass
        closing.join(timeout=30)
        with watching(server) as late:
            assert late.response.status_code == 503


def test_somebody_who_watches_does_not_keep_the_server_from_ending() -> None:
    with serving() as (process, url, lines):
        playground = next(line for line in lines if "layground" in line)
        assert url.removesuffix("v1") in playground
        assert "minillm" in httpx.get(url.removesuffix("v1")).text
        with httpx.stream("GET", f"{url}/engine/steps", timeout=30) as response, client_of(url) as client:
            events = response.iter_lines()
            next(events)
            client.models.list()
            process.send_signal(signal.SIGTERM)
            for _ in events:
                pass
        assert process.wait(timeout=30) == 0
