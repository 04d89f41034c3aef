"""The page in a real browser, where there is one (`make chromium`): pictures, keys, cancelling, nothing from afar."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, Pipeline, Sampler, to_uint8
from pixelsnail_infer.runtime.files.images import grey
from pixelsnail_infer.runtime.serving.served import ServedPrior

from .browser import Page, chromium, find_chromium
from .held import held, taken
from .running import Running, running, until

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is here; `make chromium` installs it")

_PIXELS = """(() => [...document.querySelectorAll('#tiles canvas')].map((canvas) =>
  [canvas.height, canvas.width, ...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]))()"""
_DONE = "document.getElementById('said').textContent.endsWith(' s')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as made:
        yield made


def opened(page: Page, made: Running) -> Page:
    page.size(1100, 760)
    page.said.clear()
    page.asked.clear()
    page.open(f"http://127.0.0.1:{made.port}/")
    page.until("document.getElementById('model').options.length > 0")
    return page


def choose(page: Page, **values: object) -> None:
    for name, value in values.items():
        page.value(f"(() => {{ const field = document.querySelector('[name={name}]'); "
                   f"field.value = '{value}'; "
                   "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true})); "
                   "})()")


def painted(page: Page) -> np.ndarray:
    """uint8 [n, H, W, 4]: every picture on the page."""
    found = page.value(_PIXELS)
    height, width = found[0][:2]
    return np.array([tile[2:] for tile in found], np.uint8).reshape(-1, height, width, 4)


def test_pictures_are_those_of_the_model(page: Page, live: Running, digits: Sampler) -> None:
    opened(page, live)
    choose(page, model="digits", label=3, n=5, seed=2**64 - 1, temperature=0.5, top_p=0.9)
    page.value("document.getElementById('draw').click()")
    page.until(_DONE)
    codes = digits.sample(5, label=3, seed=2**64 - 1, temperature=0.5, top_p=0.9)
    assert np.abs(painted(page)[..., 0].astype(int) - grey(codes, 17)).max() <= 1  # the browser rounds as it likes
    assert page.value("document.getElementById('progress').value") == 1
    page.until("document.getElementById('occupancy-is').textContent !== '–'")
    own = f"http://127.0.0.1:{live.port}/"
    assert page.asked and all(address.startswith((own, "data:")) for address in page.asked)
    assert page.said == []


def test_a_pipeline_shows_its_images(page: Page, live: Running, pipeline: Pipeline) -> None:
    opened(page, live)
    choose(page, model="chain")
    choose(page, n=2, label="", seed=3)  # label: one after the other
    page.value("document.getElementById('draw').click()")
    page.until(_DONE)
    images = to_uint8(pipeline.generate(2, label=[0, 1], seed=3).images)
    shown = painted(page)[..., : images.shape[-1]]
    assert np.array_equal(shown, images)
    assert page.said == []


def test_it_works_by_keyboard_alone(page: Page, live: Running) -> None:
    opened(page, live)
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.value("document.activeElement.id || document.activeElement.className"))
    expected = ["skip", "model", "n", "seed", "temperature", "top-p", "draw", "next"]
    assert [name for name in reached if name in expected] == expected
    page.value("document.getElementById('seed').focus()")
    page.press("Enter")
    page.until(_DONE)
    assert len(painted(page)) == 8


def test_every_field_and_picture_has_a_name(page: Page, live: Running) -> None:
    opened(page, live)
    nameless = page.value("[...document.querySelectorAll('input, select')].filter((field) => !field.labels.length)"
                          ".length + [...document.querySelectorAll('canvas, progress')].filter((drawn) => "
                          "!drawn.getAttribute('aria-label')).length")  # fmt: skip
    assert nameless == 0
    assert page.value("document.documentElement.lang") == "en"


@pytest.mark.parametrize("width", [320, 390, 700, 1100])
def test_a_narrow_window_needs_no_sideways_scrolling(page: Page, live: Running, width: int) -> None:
    opened(page, live)
    page.size(width, 700)
    page.value("document.getElementById('draw').click()")
    page.until(_DONE)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_motion_is_reduced_where_it_is_asked_for(page: Page, live: Running) -> None:
    opened(page, live)
    moves = "getComputedStyle(document.getElementById('draw')).transitionDuration.split(',')[0]"
    assert page.value(moves) == "0.15s"
    page.prefer(prefers_reduced_motion="reduce")
    assert page.value(moves) == "0s"
    page.prefer()


def test_an_error_is_said(page: Page, live: Running) -> None:
    opened(page, live)
    page.value("document.getElementById('n').max = 1000")
    choose(page, n=17)
    page.value("document.getElementById('draw').click()")
    page.until("document.getElementById('said').textContent.startsWith('n is 17')")


def test_the_policy_stops_what_is_not_the_pages_own(page: Page, live: Running) -> None:
    opened(page, live)
    page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.broken = 1\">')")
    page.value("(() => { const script = document.createElement('script'); script.textContent = 'window.broken = 1'; "
               "document.body.append(script); })()")
    page.value("fetch('http://127.0.0.1:9/').catch(() => { window.refused = 1; })")
    page.until("window.refused === 1")
    assert page.value("window.broken") is None
    assert any("Content Security Policy" in line for line in page.said)


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_cancel(page: Page, toy: Path, by: str) -> None:
    with held(toy) as (made, orders):
        opened(page, made)
        page.value("document.getElementById('draw').click()")
        taken(made, 8)
        if by == "button":
            page.value("document.getElementById('cancel').click()")
        else:
            page.press(by)
        page.until("document.getElementById('said').textContent === 'Cancelled.'")
        until(lambda: made.stats("toy")["cancelled"] == 1)
        orders.gate.set()
        page.value("document.getElementById('draw').click()")
        page.until(_DONE)


def test_a_seed_may_begin_with_zeros(page: Page, live: Running, digits: Sampler) -> None:
    opened(page, live)
    choose(page, model="digits", label=3, n=2, seed="007")
    page.value("document.getElementById('draw').click()")
    page.until(_DONE)
    assert np.abs(painted(page)[..., 0].astype(int) - grey(digits.sample(2, label=3, seed=7), 17)).max() <= 1


class Odd(ServedPrior):
    """A model that the page cannot draw from."""

    def description(self) -> dict[str, Any]:
        vector = {"name": "v", "kind": "vector", "shape": [2], "dtype": "float32", "levels": None}
        return {**super().description(), "conditions": [vector]}


def test_another_model_while_one_draws_starts_no_second_drawing(page: Page, toy: Path) -> None:
    off = "['draw', 'next', 'cancel'].map((name) => document.getElementById(name).disabled).join()"
    with held(toy) as (made, orders):
        toy_ = made.service.models["toy"]
        assert isinstance(toy_, ServedPrior)
        made.service.models["odd"] = Odd("odd", ("odd.onnx",), toy_.engine)
        opened(page, made)
        assert page.value(off) == "false,false,true"
        page.value("document.getElementById('draw').click()")
        taken(made, 8)
        choose(page, model="toy")
        assert page.value(off) == "true,true,false"
        page.value("document.getElementById('next').dispatchEvent(new Event('click'))")
        choose(page, model="odd")
        assert page.value("document.getElementById('seed').value") == "0"
        page.value("document.getElementById('cancel').click()")
        page.until("document.getElementById('said').textContent === 'Cancelled.'")
        assert page.value(off) == "true,true,true", "odd cannot be drawn from"
        choose(page, model="toy")
        assert page.value(off) == "false,false,true"
        until(lambda: made.stats("toy")["cancelled"] == 1)
        orders.gate.set()


def test_a_service_that_is_not_reached_at_first_is_asked_again(page: Page, live: Running) -> None:
    page.call("Network.setBlockedURLs", urls=["*/v1/models"])
    try:
        page.open(f"http://127.0.0.1:{live.port}/")
        page.until("document.getElementById('said').textContent === 'The service is not reached.'")
        assert page.value("document.getElementById('draw').disabled")
    finally:
        page.call("Network.setBlockedURLs", urls=[])
    page.until("document.getElementById('model').options.length > 0")
    page.value("document.getElementById('draw').click()")
    page.until(_DONE)


def test_rows_come_one_by_one(page: Page, toy: Path) -> None:
    """After one row of a picture the next one is held; the page shows the first."""
    with held(toy) as (made, orders):
        opened(page, made)
        choose(page, n=1)
        reached = 0

        def before(part: str, inputs: object) -> None:
            nonlocal reached
            reached += part == "row"
            if reached == 2 and part == "row":
                until(lambda: bool(seen))

        seen: list[int] = []
        orders.before = before
        orders.gate.set()
        page.value("document.getElementById('draw').click()")
        page.until("document.getElementById('progress').value === 0.25")
        assert (painted(page)[0, 0, :, 3] == 255).all() and (painted(page)[0, 1:, :, 3] == 0).all()
        seen.append(1)
        page.until(_DONE)


def test_a_locked_service_asks_for_its_key(page: Page, digits: Sampler) -> None:
    key = "a-key-of-sixteen-1"
    with running(lambda: {"digits": ServedPrior("digits", ("d",), Engine(digits))},
                 keys=(hashlib.sha256(key.encode()).digest(),)) as made:  # fmt: skip
        page.open(f"http://127.0.0.1:{made.port}/")
        page.until("!document.getElementById('key-label').hidden")
        choose(page, key=key)
        page.until("document.getElementById('model').options.length > 0")
        page.value("document.getElementById('draw').click()")
        page.until(_DONE)


def test_the_interface_is_shown(page: Page, live: Running) -> None:
    page.said.clear()
    page.open(f"http://127.0.0.1:{live.port}/docs")
    assert "POST /v1/images" in page.value("document.body.innerText")
    assert page.value("document.getElementById('busy').innerText").startswith("429")
    assert page.said == []
