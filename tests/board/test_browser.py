"""The board in a real browser: what a person sees and does."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from mypt.board.decimate import smoothed
from mypt.board.folder import LOOK_S
from mypt.checkpoint.layout import log_path
from tests.board.runs import HOSTILE, course, evaluation, grow, start, step, write_log, write_run
from tests.board.test_verb import board
from tests.conftest import TINY, Mypt, tiny_text

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NEEDED = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=NEEDED)]

PLOT = "document.querySelector('#plot-loss')"
HOVERED = f"return [...{PLOT}.querySelectorAll('.hoverlayer .hovertext')].map(t => t.textContent).join()"
ENDING = "x<\u2215script><script>window.hacked=3<\u2215script><!--<script>" + "y" * 60
"""A hostile name that a file can have."""
T = Any


class Page:
    """A page of the board, and what can be asked of it."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, hash: str = "") -> None:  # noqa: A002 - what a browser calls it
        """Open it anew, and wait for the charts."""
        self.driver.get("about:blank")
        self.driver.get(self.address + hash)
        self.until(lambda: int(self.js("return document.body.dataset.runs || 0")) > 0, 20)
        self.until(lambda: self.traces())

    def js(self, script: str, *given: object) -> T:
        return self.driver.execute_script(script, *given)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, holds: Callable[[], T], within: float = 10.0) -> T:
        """Wait until something holds; what it is."""
        deadline = time.monotonic() + within
        while not (found := holds()):
            assert time.monotonic() < deadline, f"did not come about within {within} s"
            time.sleep(0.02)
        return found

    def names(self) -> list[str]:
        """The runs of the table, as they stand there."""
        return [
            str(name)
            for name in self.js("return [...document.querySelectorAll('#table tbody a')].map(a => a.textContent)")
        ]

    def traces(self) -> list[dict[str, Any]]:
        """What the chart of losses draws."""
        fields = "name: t.meta[0], x: [...t.x], y: [...t.y], dash: t.line?.dash, symbol: t.marker?.symbol"
        script = f"return ({PLOT}.data || []).map(t => ({{{fields}}}))"
        found: list[dict[str, Any]] = self.js(script)
        return found

    def range(self) -> tuple[float, float]:
        """What the charts show of x."""
        low, high = self.js(f"return {PLOT}._fullLayout.xaxis.range")
        return float(low), float(high)

    def tick(self, name: str) -> None:
        """Draw a run, or draw it no longer."""
        self.js(
            "[...document.querySelectorAll('#table input')].find(i => i.ariaLabel === arguments[0]).click()",
            f"Draw {name}",
        )


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(BROWSER)
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,1400",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(str(DRIVER))) as made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder with a board that stays there for all tests, and its port; each test lays other runs into it."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "checkpoints").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with board() as (_, port):
            yield folder, port


@pytest.fixture
def page(place: tuple[Path, int], driver: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """The board of a folder with two runs, one under a hostile name; at the end, nothing may have gone wrong in it."""
    folder, port = place
    monkeypatch.chdir(folder)
    for path in (*folder.glob("checkpoints/*"), *folder.glob("logs")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_run(folder, "dante")
    write_run(folder, HOSTILE, course(3, "another"), run_id="another")
    driver.set_window_size(1280, 1400)
    prefer(driver, "light")
    driver.get_log("browser")
    made = Page(driver, f"http://127.0.0.1:{port}/")
    time.sleep(LOOK_S)
    made.open()
    yield made
    assert made.js("return window.hacked") is None
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    asked = made.js("return performance.getEntriesByType('resource').map(e => e.name)")
    assert asked and all(name.startswith(made.address) for name in asked)
    driver.get("about:blank")


def prefer(driver: webdriver.Chrome, theme: str) -> None:
    """Let the system say which colours it likes."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def test_a_run_that_trains_is_seen_to_move(page: Page) -> None:
    Path("input.txt").write_text(tiny_text(), encoding="utf-8")
    words = ["train", "live", "--input-file", "input.txt", *TINY, "--max-iters", "100000", "--eval-interval", "50"]
    call = [sys.executable, "-m", "mypt", *words, "--log-interval", "5"]
    training = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        page.until(lambda: "live" in page.names(), 60)
        page.tick("live")

        def ends() -> list[float]:
            return [t["x"][-1] for t in page.traces() if t["name"] == "live val" and t["x"]]

        first = page.until(ends, 60)[0]
        page.until(lambda: ends()[0] > first, 60)
        line = "return [...document.querySelectorAll('#table tbody tr')].find(r => r.innerText.includes('live'))"
        step = page.js(f"{line}.querySelector('.c-step').textContent")
        page.until(lambda: page.js(f"{line}.querySelector('.c-step').textContent") != step, 60)
        assert "running" in page.js(f"{line}.querySelector('.c-state').textContent")
        assert page.js(f"{line}.querySelector('.c-ETA').textContent") != "–"
    finally:
        training.kill()
        training.wait()
    page.until(lambda: "crashed" in page.js(f"{line}.querySelector('.c-state').textContent"))


def test_a_new_point_is_drawn_within_two_seconds(page: Page) -> None:
    page.until(lambda: any(t["name"] == "dante val" for t in page.traces()))
    waits = []
    for number in (60, 70, 80):
        begun = time.monotonic()
        grow(log_path("dante"), evaluation(number, 2.0))
        page.until(lambda n=number: any(t["name"] == "dante val" and t["x"][-1] == 32 * n for t in page.traces()))  # type: ignore[misc]
        waits.append(time.monotonic() - begun)
    assert min(waits) < 2, waits


def test_curves_are_sketched_before_plotly_is_there(page: Page) -> None:
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/plotly.js"]})
    try:
        page.driver.get(page.address)
        drawn = page.until(lambda: page.all("#plot-loss .sketch polyline"))
        assert len(drawn) == 6  # val, poems and steps of two runs
        page.until(lambda: "Plotly's script could not be loaded" in page.one("#reading").text)
        assert page.names() and len(page.all("#legend a")) == 2
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.driver.get_log("browser")  # which says that it was blocked
    page.open()
    assert page.all(".sketch") == []


def test_pointing_at_a_point_tells_what_it_is(page: Page) -> None:
    page.one("#none").click()
    page.tick("dante")
    page.until(lambda: page.all("[data-line='steps']"))[0].click()
    page.until(lambda: [t["name"] for t in page.traces()][:2] == ["dante val", "dante poems"])
    point_at(page, "dante val", 2)
    told = page.until(lambda: page.js(HOVERED))
    assert "dante" in told and "step 30" in told and "2.7" in told


def point_at(page: Page, curve: str, number: int) -> None:
    """Move the pointer to a point of a curve of losses."""
    page.js(f"{PLOT}.scrollIntoView()")
    chain = ActionChains(page.driver, duration=50)
    script = f"""
        const [name, i] = arguments, plot = {PLOT}, {{x, y}} = plot.data.find(t => t.meta[0] === name);
        const box = plot.getBoundingClientRect(), layout = plot._fullLayout, {{l, t}} = layout.margin;
        return [box.x + l + layout.xaxis.d2p(x[i]), box.y + t + layout.yaxis.d2p(y[i])]
    """
    x, y = page.js(script, curve, number)
    chain.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    chain.perform()


def drag(page: Page, start: float, end: float) -> None:
    """Drag over the chart of losses, between two shares of its width."""
    page.js(f"{PLOT}.scrollIntoView()")
    x, y, width = page.js(
        f"const b = {PLOT}.querySelector('.nsewdrag').getBoundingClientRect();return [b.x, b.y + b.height / 2, b.width]"
    )
    chain = ActionChains(page.driver, duration=50)
    pointer = chain.w3c_actions.pointer_action
    pointer.move_to_location(round(x + start * width), round(y))
    pointer.pointer_down()
    pointer.move_to_location(round(x + (start + end) / 2 * width), round(y))
    pointer.move_to_location(round(x + end * width), round(y))
    pointer.pointer_up()
    chain.perform()


def test_dragging_zooms_into_all_points_and_a_double_click_leads_back(page: Page) -> None:
    log = log_path("long")
    write_log(log, [start(run_id="long"), *(step(i, 3 + i % 7, run_id="long") for i in range(1, 30_001))])
    page.until(lambda: "long" in page.names())
    page.one("#none").click()
    page.tick("long")
    page.js(
        "const axis = document.querySelector('#axis'); axis.value = 'steps'; axis.dispatchEvent(new Event('change'))"
    )
    whole = page.until(lambda: [t for t in page.traces() if t["name"] == "long steps" and t["x"][-1] == 30_000])[0]
    assert 500 < len(whole["x"]) < 5000
    before = page.range()
    drag(page, 0.5, 0.52)
    page.until(lambda: page.range()[1] - page.range()[0] < 0.1 * (before[1] - before[0]))
    low, high = page.range()
    drawn = page.until(lambda: [t["x"] for t in page.traces() if len(t["x"]) < 1000])[0]
    assert drawn == list(range(int(drawn[0]), int(drawn[-1]) + 1)) and drawn[0] <= low + 1 and drawn[-1] >= high - 1
    rate = "return document.querySelector('#plot-lr')._fullLayout.xaxis.range"
    page.until(lambda: page.js(rate) == pytest.approx([low, high]))
    chain = ActionChains(page.driver, duration=10)
    chain.double_click(page.one("#plot-loss .nsewdrag")).perform()
    page.until(lambda: page.range()[1] - page.range()[0] > 0.9 * (before[1] - before[0]))
    page.until(lambda: len(page.traces()[0]["x"]) == len(whole["x"]))


def test_lines_scales_axes_marks_and_smoothing_are_chosen(page: Page) -> None:
    def shown() -> set[str]:
        return {t["name"] for t in page.traces() if "gold" not in t["name"]}

    assert {"dante val", "dante poems", "dante steps"} <= shown() and "dante train" not in shown()
    page.one("[data-line='train']").click()
    page.one("[data-line='poems']").click()
    page.until(lambda: "dante train" in shown() and "dante poems" not in shown())
    traces = {t["name"]: t for t in page.traces()}
    assert traces["dante val"]["dash"] != traces["dante train"]["dash"]
    Select(page.one("#scale")).select_by_value("log")
    page.until(lambda: page.js(f"return {PLOT}._fullLayout.yaxis.type") == "log")
    for axis, end in (("steps", 50), ("time", 25), ("tokens", 1600)):
        Select(page.one("#axis")).select_by_visible_text(axis)
        page.until(lambda e=end: any(t["name"] == "dante val" and t["x"][-1] == e for t in page.traces()))  # type: ignore[misc]
    stars = [t for t in page.traces() if t["symbol"] == "star"]
    assert stars and stars[0]["x"] == [1600]
    page.one("#marks").click()
    page.until(lambda: not [t for t in page.traces() if t["symbol"] == "star"])
    count = len(page.traces())
    page.js("const s = document.querySelector('#smooth'); s.value = 0.9; s.dispatchEvent(new Event('input'))")
    page.until(lambda: len(page.traces()) > count)


def test_runs_are_told_apart_without_colour(page: Page) -> None:
    if len([i for i in page.all("#table tbody input") if i.is_selected()]) < 2:
        page.tick("dante")
    page.until(lambda: len({t["symbol"] for t in page.traces() if t["name"].endswith(" val")}) == 2)
    signs = [sign.text for sign in page.all("#legend .sign")]
    assert len(set(signs)) == 2
    states = page.js("return [...document.querySelectorAll('#table tbody .c-state')].map(s => s.textContent)")
    assert all("crashed" in state for state in states)


def test_the_table_is_filtered_and_sorted(page: Page) -> None:
    write_log(log_path("alone"), course(2, "third"))
    page.until(lambda: len(page.names()) == 3)
    page.one("#filter").send_keys("DAN")
    page.until(lambda: page.names() == ["dante"])
    assert page.one("#counted").text == "1 of 3 runs"
    page.one("#filter").clear()
    page.one("#filter").send_keys("crashed")
    page.until(lambda: set(page.names()) == {"dante", HOSTILE})
    page.js("const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input'))")
    for heading, order in (("step", ["dante", HOSTILE, "alone"]), ("name", ["alone", "dante", HOSTILE])):
        button = next(b for b in page.all("#table thead button") if b.text.split()[0] == heading)
        button.send_keys(Keys.ENTER)
        assert page.names() == order
        button.send_keys(Keys.ENTER)
        assert page.names() == order[::-1]
        assert page.one("#table thead th[aria-sort]").text.startswith(heading)


def test_a_hostile_name_is_text_wherever_it_stands(page: Page) -> None:
    for name in (HOSTILE, "dante"):
        box = page.js(
            "return [...document.querySelectorAll('#table input')].find(i => i.ariaLabel === arguments[0]).checked",
            f"Draw {name}",
        )
        if not box:
            page.tick(name)
    page.until(lambda: HOSTILE in [a.text for a in page.all("#legend a")])
    page.js(
        f"const curveNumber = {PLOT}.data.findIndex(t => t.name.includes('img'));"
        f"Plotly.Fx.hover({PLOT}, [{{curveNumber, pointNumber: 0}}])"
    )
    told = page.until(
        lambda: page.js(f"return [...{PLOT}.querySelectorAll('.hoverlayer .hovertext')].map(t => t.textContent).join()")
    )
    assert HOSTILE in told
    page.driver.get(page.address + "#compare")
    page.until(lambda: HOSTILE in [th.text for th in page.all("#comparison th")])
    run = page.js(
        "return [...document.querySelectorAll('#table a')].find(a => a.textContent === arguments[0]).hash", HOSTILE
    )
    page.driver.get(page.address + run)
    page.until(lambda: page.one("#run-title").text == HOSTILE)
    assert page.all("img, iframe, object, embed, a[href^=javascript]") == []


def test_the_page_of_a_run_shows_its_record(page: Page) -> None:
    page.js("[...document.querySelectorAll('#table a')].find(a => a.textContent === 'dante').click()")
    page.until(lambda: page.one("#run-title").text == "dante")
    shown = page.one("#page").text
    for word in ("Settings", "max_iters", "Lineage", "Files", "model.pt", "gold at step 50"):
        assert word in shown, word
    grow(log_path("dante"), {**course(6)[-1], "iter": 60})
    page.until(lambda: "gold at step 60" in page.one("#page").text)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_system_says_dark_or_light_until_a_person_does(page: Page, theme: str) -> None:
    prefer(page.driver, theme)
    page.open()
    ground = page.js("return getComputedStyle(document.body).backgroundColor")
    ink = page.js(f"return {PLOT}.layout.font.color")
    page.one("#theme").click()
    assert page.js("return getComputedStyle(document.body).backgroundColor") != ground
    page.until(lambda: page.js(f"return {PLOT}.layout.font.color") != ink)
    page.open()
    assert page.js("return document.documentElement.dataset.theme") == ("light" if theme == "dark" else "dark")
    page.js("localStorage.clear()")


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_is_cut_off_on_any_screen(page: Page, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page.open()
        page.js("for (const i of document.querySelectorAll('#table input')) if (!i.checked) i.click()")
        run = page.js("return document.querySelector('#table a').hash")
        for view, ready in (("#charts", "#legend a"), ("#compare", "#comparison th"), (run, "#page th")):
            page.driver.get(page.address + view)
            page.until(lambda r=ready: page.all(r))  # type: ignore[misc]
            assert page.js("return document.documentElement.scrollWidth") <= width, view
            beyond = page.js("""
                const may = (e) => e.closest('.scroll, .unseen, .skip, svg, pre');
                const out = (e) => e.offsetParent && !may(e) && e.getBoundingClientRect().right > innerWidth + 1;
                return [...document.querySelectorAll('body *')].filter(out).map(e => e.outerHTML.slice(0, 80))
            """)
            assert beyond == [], view
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_can_be_done_by_keyboard(page: Page) -> None:
    before = page.range()
    page.one("#plot-loss").send_keys("+")
    page.until(lambda: page.range()[1] - page.range()[0] < 0.7 * (before[1] - before[0]))
    near = page.range()
    page.one("#plot-loss").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.range()[0] > near[0] and page.range()[1] > near[1])
    page.one("#plot-loss").send_keys("0")
    page.until(lambda: page.range() == before)
    page.js("document.activeElement.blur()")
    reached: set[str] = set()
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(
            page.js("const e = document.activeElement; return e.id || e.className || e.tagName + e.textContent")
        )
    assert {"filter", "axis", "scale", "smooth", "marks", "plot-loss", "plot-lr", "plot-norm", "theme"} <= reached
    box = page.one("#table tbody input")
    was = box.is_selected()
    box.send_keys(Keys.SPACE)
    assert box.is_selected() != was


def test_a_focus_in_the_table_outlives_news(page: Page) -> None:
    page.js("[...document.querySelectorAll('#table a')].find(a => a.textContent === 'dante').focus()")
    grow(log_path("dante"), evaluation(60, 2.0))
    page.until(
        lambda: page.js("return document.activeElement.closest('tr')?.querySelector('.c-step').textContent") == "60"
    )
    assert page.js("return document.activeElement.textContent") == "dante"


def test_whatever_can_be_used_has_a_name_for_those_who_listen(page: Page) -> None:
    for element in page.all("button, input, select, a, [role=img], [role=region]"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")
    assert "dante: val 2.5" in page.one("#plot-loss").accessible_name
    assert page.one("html").get_attribute("lang") == "en" and page.one("h1").text == "mypt board"


def test_a_board_that_ended_is_said_to_be_gone_and_found_again(folder: Path, driver: webdriver.Chrome) -> None:
    write_run(folder, "dante")
    with board() as (_, port):
        page = Page(driver, f"http://127.0.0.1:{port}/")
        page.open()
        page.until(lambda: page.one("#live").text.endswith("live"))
    page.until(lambda: "not connected" in page.one("#live").text)
    grow(log_path("dante"), evaluation(60, 2.0))
    with board("--port", str(port)):
        page.until(lambda: page.one("#live").text.endswith("live"), 20)
        page.until(lambda: any(t["name"] == "dante val" and t["x"][-1] == 32 * 60 for t in page.traces()))
        driver.get("about:blank")


@pytest.fixture
def report(folder: Path, driver: webdriver.Chrome, mypt: Mypt) -> Iterator[Page]:
    """A report on two runs, one under a hostile name, opened from the disk; at the end nothing may have gone wrong."""
    write_log(log_path("dante"), course(5))
    write_log(log_path(ENDING), course(4, "another"))
    hostile = next(str(path) for path in Path("logs/train").glob("x*"))
    mypt("compare", "dante", hostile, "--out", "report.html")
    prefer(driver, "light")
    driver.get_log("browser")
    made = Page(driver, (folder / "report.html").as_uri())
    made.open()
    yield made
    assert made.js("return window.hacked") is None
    assert made.js("return performance.getEntriesByType('resource')") == []
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    driver.get("about:blank")


def test_a_report_opened_from_the_disk_is_hovered_zoomed_and_toggled(report: Page) -> None:
    def runs() -> set[str]:
        return {t["name"].rpartition(" ")[0] for t in report.traces() if t["name"].endswith(" val")}

    escaped = f"{ENDING}_eval".replace("<", "&lt;").replace(">", "&gt;")
    assert runs() == {"dante", escaped}
    report.one("[data-line='steps']").click()
    dante, hostile = report.all("#legend input")
    hostile.send_keys(Keys.SPACE)
    report.until(lambda: runs() == {"dante"})
    point_at(report, "dante val", 2)
    told = report.until(lambda: report.js(HOVERED))
    assert "dante" in told and "step 30" in told and "2.7" in told
    before = report.range()
    drag(report, 0.4, 0.6)
    report.until(lambda: report.range()[1] - report.range()[0] < 0.3 * (before[1] - before[0]))
    assert [len(t["x"]) for t in report.traces() if t["name"] == "dante val"] == [3]
    report.one("[data-zoom='all']").click()
    report.until(lambda: report.range() == pytest.approx(before))
    hostile.send_keys(Keys.SPACE)
    dante.click()
    report.until(lambda: runs() == {escaped})
    point_at(report, f"{escaped} val", 1)
    report.until(lambda: ENDING in report.js(HOVERED))
    Select(report.one("#axis")).select_by_visible_text("time")
    report.until(lambda: [t["x"][-1] for t in report.traces() if t["name"].endswith(" val")] == [20])
    report.js("const s = document.querySelector('#smooth'); s.value = 0.5; s.dispatchEvent(new Event('input'))")
    means = report.until(lambda: [t["y"] for t in report.traces() if t["name"].endswith(" val")][1:])
    assert means == [pytest.approx([*smoothed([2.9, 2.8, 2.7, 2.6], 0.5)])]


def test_charts_that_are_there_share_the_width_of_a_wide_screen(
    folder: Path, driver: webdriver.Chrome, mypt: Mypt
) -> None:
    """None leaves room for one of figures that the run has not logged."""
    write_log(log_path("dante"), [event for event in course(5) if event["event"] != "step"])
    mypt("logs", "plot", "dante", "--out", "report.html")
    screen = {"width": 1900, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    widths = """return [...document.querySelectorAll("figure:not([hidden]) .plot")]
        .map(plot => [plot._fullLayout?.width, plot.clientWidth])"""
    try:
        page = Page(driver, (folder / "report.html").as_uri())
        page.open()
        loss, *others = page.until(lambda: all(map(all, found := page.js(widths))) and len(found) > 1 and found)
        assert loss[0] == loss[1] > 1800 and len(others) == 2
        assert all(drawn == there > 1700 / len(others) for drawn, there in others)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_report_has_verdict_and_tables_on_a_phone_and_its_colours_are_those_of_the_reader(report: Page) -> None:
    screen = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    report.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    prefer(report.driver, "dark")
    try:
        report.until(lambda: report.js(f"return {PLOT}.clientWidth") < 390)
        assert report.js("return document.documentElement.scrollWidth") <= 390
        assert report.one("#verdict .verdict").text == "Not comparable."
        heads = report.js("return [...document.querySelectorAll('#findings thead th')].map(h => h.textContent)")
        assert "dante" in heads and f"{ENDING}_eval" in heads
        report.until(lambda: report.js("return document.documentElement.dataset.theme") == "dark")
        ink = report.js(f"return {PLOT}.layout.font.color")
        report.one("#theme").click()
        report.until(lambda: report.js(f"return {PLOT}.layout.font.color") != ink)
        report.js("localStorage.clear()")
    finally:
        report.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
