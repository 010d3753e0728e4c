"""The playground in a real browser, at a desktop's and at a phone's size, by keyboard, dark and light."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import MODEL, WatchedSampler, connect, wait_until
from torch import Tensor

from minillm.engine import LLM, Request
from minillm.sampling import SamplingMetadata, SamplingParams
from minillm.server import LocalServer
from minillm.server.tenants import Tenant, Tenants

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
EVIL = "<img src=x onerror=\"document.title='taken over'\"><b>bold</b> "
Open = Callable[..., Page]

# For every text that can be seen: its contrast with what is behind it, after WCAG 2.1.
CONTRASTS = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((parts(color)[3] ?? 1) === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of document.body.querySelectorAll("*")) {
    const words = [...node.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
    if (!words || node.closest("script, noscript, option") || !node.checkVisibility() || node.disabled) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    found.push({ words, ratio: (a + 0.05) / (b + 0.05) });
  }
  return found;
}"""


class ScriptedSampler(WatchedSampler):
    """Says the same text over and over, whoever asks, and never ends by itself."""

    def __init__(self, text: str = "lamp ", *, delay: float = 0.03) -> None:
        super().__init__(delay=delay)
        self.tokens: Iterator[int] = itertools.cycle(LLM(MODEL).tokenizer.encode(text, add_special_tokens=False))

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return torch.full_like(super().sample(logits, metadata), next(self.tokens))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = [os.environ.get("CHROME_PATH", ""), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            "The playground's tests need Chromium or Chrome. Install one (Debian, Ubuntu: `sudo apt-get install "
            "chromium`), or set CHROME_PATH to the browser's program."
        )
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens the page; in the end, nothing may have come from elsewhere, and no script may have failed."""
    pages: list[Page] = []
    troubles: list[str] = []

    def opened(server: LocalServer, size: Any = DESKTOP, *, state: str = "live", **options: Any) -> Page:
        page, url = browser.new_context(viewport=size, **options).new_page(), server.url
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        # What a server refuses, or doesn't answer, is an error to the console as well; that is tested elsewhere.
        page.on(
            "console",
            lambda told: told.type == "error" and "Failed to load" not in told.text and troubles.append(told.text),
        )
        page.on("request", lambda sent: sent.url.startswith(url) or troubles.append(sent.url))
        page.goto(url)
        expect(page.locator("html")).to_have_attribute("data-state", state)
        return page

    expect.set_options(timeout=60_000)
    yield opened
    for page in pages:
        page.context.close()
    assert troubles == []


@pytest.fixture
def llm() -> LLM:
    return LLM(MODEL, sampler=ScriptedSampler())


def ask(page: Page, text: str = "Hello") -> None:
    page.locator("#prompt").fill(text)
    page.locator("#prompt").press("Enter")


def is_wide(page: Page) -> bool:
    """Whether one would have to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def tab_to(page: Page, name: str) -> set[str]:
    """Presses Tab until the focus is there; returns what it passed, each with a ring that can be seen."""
    passed: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => {
              const here = document.activeElement;
              const rings = [here, here.closest(".scroller") ?? here].map((node) => getComputedStyle(node));
              return { id: here.id || here.className || here.textContent,
                       ring: rings.some((s) => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) };
            }"""
        )
        assert focus["ring"] or focus["id"] == "", focus
        passed.add(focus["id"])
        if focus["id"] == name:
            return passed
    raise AssertionError(f"{name} can't be reached; {passed} can")


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop, light", "phone, dark"]
)
def test_a_chat_by_keyboard_alone(open_page: Open, llm: LLM, size: Any, scheme: Any) -> None:
    with LocalServer(llm) as server:
        page = open_page(server, size, color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert not is_wide(page)
        passed = tab_to(page, "prompt")
        assert passed >= {"theme", "lanes-number", "new-chat"}
        page.keyboard.type("Tell me")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("about lamps")
        page.keyboard.press("Enter")
        answer = page.locator(".message.assistant .text")
        expect(answer).to_contain_text("lamp lamp")
        so_far = len(answer.inner_text())
        assert wait_until(lambda: len(answer.inner_text()) > so_far)  # it grows while one looks
        assert page.locator(".message.user .text").inner_text() == "Tell me\nabout lamps"
        assert page.locator("#prompt").input_value() == ""
        assert page.locator(".log").get_attribute("aria-busy") == "true"
        passed = tab_to(page, "map")
        assert "pause" in passed
        page.keyboard.press("ArrowRight")
        expect(page.locator("#map-detail")).to_contain_text(re.compile(r"Block 1: used by request A, tokens 0 to 15"))
        tab_to(page, "timeline")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#timeline-detail")).to_contain_text(re.compile(r"Step \d+: .*A decodes"))
        assert not is_wide(page)
        page.keyboard.press("Escape")
        expect(page.locator(".meta")).to_have_text("Stopped.")
        assert wait_until(lambda: not llm.engine.has_unfinished)
        assert llm.engine.metrics.snapshot().num_finished["abort"] == 1
        expect(page.locator(".log")).to_have_attribute("aria-busy", "false")
        expect(page.locator("#requests tr")).to_have_count(0)
        page.locator("#map").focus()
        expect(page.locator("#map-detail")).to_contain_text("Block 1: cached.")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_map_shows_who_shares_a_prefix(open_page: Open, llm: LLM, size: Any) -> None:
    with LocalServer(llm) as server:
        page = open_page(server, size)
        page.get_by_role("button", name="Four that share").click()
        expect(page.locator(".lane .chip")).to_have_text(["A", "B", "C", "D"])
        expect(page.locator("#requests tr")).to_have_count(4)
        expect(page.locator("#requests td:nth-of-type(1)")).to_have_text(["decode"] * 4)
        cached = page.locator("#requests td:nth-of-type(3)").all_inner_texts()
        assert cached[0] == "0" and all(int(number) > 64 for number in cached[1:])
        page.locator("#map").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#map-detail")).to_contain_text("Block 1: shared by requests A, B, C and D, tokens 0 to 15")
        assert re.search(r"Hash [0-9a-f]{8}…", page.locator("#map-detail").inner_text())
        drawn = page.evaluate("[...document.querySelector('#map').getContext('2d').getImageData(0, 0, 900, 40).data]")
        pixels = {tuple(drawn[at : at + 3]) for at in range(0, len(drawn), 4)}
        assert pixels >= {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)}  # the colors of A and B
        expect(page.locator("#tiles")).to_contain_text(re.compile(r"Prefix cache hits\s*[1-9]\d %"))
        assert not is_wide(page)
        page.locator("#stop").click()
        assert wait_until(lambda: not llm.engine.has_unfinished)
        assert llm.engine.metrics.snapshot().num_finished["abort"] == 4
        expect(page.locator(".meta")).to_have_text(["Stopped."] * 4)


def test_a_pool_of_many_blocks_can_be_walked_through(open_page: Open) -> None:
    llm = LLM(MODEL, num_blocks=40_001)
    for index in range(400):  # each leaves a hundred blocks in the prefix cache
        request = Request(str(index), [index % 200, index // 200] * 800, SamplingParams(), 2000)
        assert llm.engine.kv.allocate_slots(request, 1600)
        request.num_computed_tokens = 1600
        llm.engine.kv.cache_blocks(request)
        llm.engine.kv.free(request.request_id)
    with LocalServer(llm) as server:
        page = open_page(server)
        expect(page.locator("#map-count")).to_have_text("40,000, each for 16 tokens")
        page.locator("#map").focus()
        page.keyboard.press("End")
        expect(page.locator("#map-detail")).to_contain_text("Block 40000: cached.")
        drawn = page.evaluate(
            """() => {
              const map = document.querySelector("#map");
              const pixels = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
              return { height: map.height, inked: pixels.filter((value, at) => at % 4 === 3 && value > 0).length };
            }"""
        )
        assert drawn["height"] < 400
        assert drawn["inked"] > 10_000
        page.keyboard.press("ArrowUp")
        assert re.match(r"Block 39\d\d\d: cached", page.locator("#map-detail").inner_text())
        page.keyboard.press("Home")
        expect(page.locator("#map-detail")).to_contain_text("Block 0")


def test_n_answers_travel_as_one_request_and_keep_talking_apart(open_page: Open, llm: LLM) -> None:
    with LocalServer(llm) as server:
        page = open_page(server)
        page.locator("#settings summary").click()
        page.locator("#max-tokens").fill("4")
        page.get_by_role("button", name="Eight answers").click()
        expect(page.locator(".meta")).to_contain_text(["32 tokens in all 8 answers"] * 8)
        expect(page.locator(".lane .chip")).to_have_text(list("ABCDEFGH"))
        ids = {item.request_id for step in llm.engine.tracer.steps for item in step.scheduled}
        assert len({name.partition("#")[0] for name in ids}) == 1
        assert len(ids) == 8
        page.locator("#as-one").uncheck()
        ask(page, "And now?")
        answers = page.locator(".meta").filter(has_text=re.compile("^4 tokens"))
        expect(answers).to_have_count(8)  # more than there are connections
        assert llm.engine.metrics.snapshot().num_finished["length"] == 16


def test_what_a_model_writes_stays_text(open_page: Open) -> None:
    with LocalServer(LLM(MODEL, sampler=ScriptedSampler(EVIL, delay=0))) as server:
        page = open_page(server)
        page.locator("#settings summary").click()
        page.locator("#max-tokens").fill("200")
        page.locator("#system").fill(EVIL)
        ask(page, EVIL)
        expect(page.locator(".message.assistant .text")).to_contain_text(EVIL * 2)
        expect(page.locator(".message.user .text")).to_have_text(EVIL.strip())
        expect(page.locator("#stop")).to_be_hidden()
        assert page.locator("#lanes img, #lanes b").count() == 0
        assert page.title() == "minillm playground"


def test_when_the_server_goes_the_page_says_so_and_comes_back_with_it(open_page: Open) -> None:
    sampler = ScriptedSampler()
    server = LocalServer(LLM(MODEL, sampler=sampler))
    page = open_page(server)
    ask(page)
    expect(page.locator(".message.assistant .text")).to_contain_text("lamp")
    port = int(server.url.rstrip("/").rpartition(":")[2])
    server.stop()
    expect(page.locator("html")).to_have_attribute("data-state", "gone")
    expect(page.locator("#notice")).to_contain_text(re.compile("The server (was stopped|can't be reached)"))
    expect(page.get_by_role("alert").filter(has_text="The answer isn’t complete")).to_be_visible()
    ask(page, "Are you there?")
    expect(page.locator(".error").last).to_have_text("The server can't be reached. Is it still running?")
    assert page.locator("#prompt").input_value() == "Are you there?"  # to be sent again
    with LocalServer(LLM(MODEL, sampler=sampler), port=port):
        expect(page.locator("html")).to_have_attribute("data-state", "live")
        expect(page.locator("#notice")).to_be_hidden()
        page.locator("#prompt").press("Enter")
        expect(page.locator(".message.assistant .text").last).to_contain_text("lamp")
        page.keyboard.press("Escape")


def test_a_key_is_asked_for_kept_in_the_tab_and_shows_ones_own_only(open_page: Open, llm: LLM) -> None:
    tenants = Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob")})
    with LocalServer(llm, tenants=tenants) as server, connect(server, api_key="sk-bob") as bob:
        page = open_page(server, state="key")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("sk-eve")
        page.keyboard.press("Enter")
        expect(page.locator("#key-text")).to_contain_text("doesn’t know this key")
        page.keyboard.type("sk-ann")
        page.keyboard.press("Enter")
        expect(page.locator("html")).to_have_attribute("data-state", "live")
        stream = bob.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=900, stream=True
        )
        ask(page)
        expect(page.locator("#others")).to_have_text("Other tenants: 1 running, 0 waiting")
        expect(page.locator("#requests tr")).to_have_count(1)
        page.locator("#map").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#map-detail")).to_have_text("Block 1: used by another tenant.")
        kept = page.evaluate("[JSON.stringify(localStorage) + document.cookie + location, sessionStorage.length]")
        assert "sk-ann" not in kept[0]
        assert kept[1] == 1
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-state", "live")
        page.locator("#forget-key").click()
        expect(page.locator("html")).to_have_attribute("data-state", "key")
        assert page.evaluate("sessionStorage.length") == 0
        stream.close()


def test_a_moment_can_be_held(open_page: Open, llm: LLM) -> None:
    with LocalServer(llm) as server:
        page = open_page(server)
        ask(page)
        expect(page.locator("#requests tr")).to_have_count(1)
        page.locator("#pause").click()
        expect(page.locator("html")).to_have_attribute("data-state", "paused")
        row = page.locator("#requests tr")
        held = row.inner_text()
        answer = page.locator(".message.assistant .text")
        so_far = len(answer.inner_text())
        assert wait_until(lambda: len(answer.inner_text()) > so_far + 50)  # the answer goes on
        assert row.inner_text() == held
        page.locator("#pause").click()
        expect(page.locator("html")).to_have_attribute("data-state", "live")
        assert wait_until(lambda: row.inner_text() != held)
        page.keyboard.press("Escape")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(open_page: Open, llm: LLM, size: Any, scheme: Any) -> None:
    with LocalServer(llm) as server:
        page = open_page(server, size, color_scheme=scheme)
        empty = page.evaluate(CONTRASTS)
        page.locator("#settings summary").click()
        page.locator("#max-tokens").fill("0")
        ask(page)
        expect(page.locator(".error")).to_contain_text("max_tokens")  # the server's own words
        page.locator("#max-tokens").fill("200")
        page.get_by_role("spinbutton", name="Ask").fill("3")
        page.get_by_role("spinbutton", name="Ask").press("Enter")
        ask(page)
        expect(page.locator("#requests tr")).to_have_count(3)
        busy = page.evaluate(CONTRASTS)
        assert len(busy) > len(empty) > 25
        assert [found for found in empty + busy if found["ratio"] < 4.5] == []
        assert not is_wide(page)
        page.locator("#stop").click()


def test_the_theme_can_be_chosen_and_stays(open_page: Open, llm: LLM) -> None:
    with LocalServer(llm) as server:
        page = open_page(server, color_scheme="dark")

        def background() -> str:
            return str(page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor"))

        dark = background()
        page.locator("#theme").click()
        assert background() != dark
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.locator("#theme").click()
        assert background() == dark


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_for_those_who_asked_for_that(open_page: Open, llm: LLM, motion: Any) -> None:
    with LocalServer(llm) as server:
        page = open_page(server, reduced_motion=motion)
        ask(page)
        expect(page.locator(".text.writing")).to_be_visible()
        assert (page.evaluate("document.getAnimations().length") > 0) == (motion == "no-preference")
        page.keyboard.press("Escape")
