"""/metrics as Prometheus reads it: names and units follow its conventions, numbers are those of the requests."""

from __future__ import annotations

import re

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from serving import MODEL, connect, wait_until

from minillm.engine import LLM
from minillm.server import LocalServer


def scrape(server: LocalServer) -> dict[str, Metric]:
    response = httpx.get(server.base_url.removesuffix("/v1") + "/metrics", timeout=60)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def test_names_and_units_follow_the_conventions(server: LocalServer) -> None:
    with connect(server) as client:
        client.completions.create(model=MODEL, prompt="x", max_tokens=2)
    families = scrape(server)
    assert len(families) > 10
    for name, family in families.items():
        assert re.fullmatch(r"minillm_[a-z][a-z0-9_]*", name)
        assert family.documentation, name
        assert family.type in ("counter", "gauge", "histogram"), name
        assert not re.search("milli|_ms|minute|percent$|_mb", name)
        if re.search("time|latency|duration", name):
            assert name.endswith("_seconds"), name
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[family.type]
        for sample in family.samples:
            assert sample.name.removeprefix(name) in suffixes, sample.name


def test_tokens_and_statuses_are_those_of_the_requests() -> None:
    with LocalServer(LLM(MODEL, device="cpu")) as server, connect(server) as client:
        usages = [
            client.completions.create(model=MODEL, prompt=text, max_tokens=4, extra_body={"ignore_eos": True}).usage
            for text in ("one", "another one")
        ]
        httpx.get(server.base_url + "/nothing", timeout=60)

        def value(family: str, **labels: str) -> float:
            return next((each.value for each in scrape(server)[family].samples if each.labels == labels), 0.0)

        assert value("minillm_prompt_tokens") == sum(usage.prompt_tokens for usage in usages if usage)
        assert value("minillm_generation_tokens") == 8
        assert value("minillm_request_success", finished_reason="length") == 2
        assert value("minillm_num_requests_running") == 0
        assert value("minillm_http_responses", status="404") == 1
        assert wait_until(lambda: value("minillm_http_responses", status="200") >= 2)
