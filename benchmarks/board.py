"""How fast `mypt board` opens a run of a million events and a folder of 200 runs, and what memory it takes.

    python benchmarks/board.py --events 1000000 --runs 200

The board is a process of its own, as it is for a user. With chromium and chromedriver the page itself is timed too.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parents[1]))

from mypt.checkpoint.layout import log_path
from tests.board.runs import course, evaluation, start, step, write_run
from tests.conftest import reseal

EVAL_EVERY = 100


def make_long(log: Path, events: int) -> None:
    """A log of so many events: an evaluation after every hundred logged steps."""
    one = json.dumps(step(1, 2.5)), json.dumps(evaluation(1, 2.5, eval_poems=3.0))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        file.write(json.dumps(start()) + "\n")
        for number in range(1, events + 1):
            at, loss = number - number // EVAL_EVERY, 2 + 1 / (1 + number / 5000) + number % 97 / 1000
            text = one[number % EVAL_EVERY == 0].replace('"iter": 1,', f'"iter": {at},').replace("2.5", f"{loss:.6f}")
            if number % EVAL_EVERY == 0:
                text = text.replace('"tokens_processed": 32', f'"tokens_processed": {32 * at}')
                text = text.replace('"elapsed_s": 0.5', f'"elapsed_s": {at / 2}')
            file.write(text + "\n")


def make_many(folder: Path, runs: int) -> None:
    """A folder of so many runs."""
    write_run(folder, "r000", course(40))
    for number in range(1, runs):
        name, bundle = f"r{number:03}", folder / f"checkpoints/r{number:03}"
        shutil.copytree(folder / "checkpoints/r000", bundle)
        state = bundle / "training_state.json"
        state.write_text(state.read_text(encoding="utf-8").replace("r000", name), encoding="utf-8")
        reseal(bundle, 50)
        shutil.copy(folder / log_path("r000"), folder / log_path(name))


class Served:
    """A board that serves a folder."""

    def __init__(self, folder: Path) -> None:
        call = [sys.executable, "-m", "mypt", "board"]
        self.process = subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split(" at ")[1].split()[0]

    def ask(self, path: str) -> tuple[str, Any]:
        """How long an answer takes, and the answer."""
        begun, worked = time.perf_counter(), self.worked()
        with urlopen(self.address + path) as answer:
            content = json.load(answer)
        return f"{time.perf_counter() - begun:.2f} s ({self.worked() - worked:.2f} s of a core)", content

    def worked(self) -> float:
        """Seconds of a core that it has had, whatever else the machine does."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """The most memory that it had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def time_long(folder: Path) -> None:
    """The answers on one long run."""
    board = Served(folder)
    seconds, table = board.ask("api/runs")
    print(f"table: {seconds}")
    question = f"api/series?run={table['runs'][0]['id']}&points=2000"
    seconds, found = board.ask(question)
    print(f"first answer, a sample of the log: {seconds}, {found['runs'][0]['share']:.0%} read")
    begun, worked, asked = time.perf_counter(), board.worked(), 0
    while found["runs"][0]["share"] < 1:
        _, found = board.ask(question)
        asked += 1
    spent = f"{time.perf_counter() - begun:.1f} s ({board.worked() - worked:.1f} s of a core)"
    print(f"all of it read {spent} later, in {asked} answers")
    for name, more in (
        ("all", ""),
        ("over time", "&x=time"),
        ("smoothed", "&smooth=0.9"),
        ("zoomed", "&from=1e6&to=1.02e6"),
    ):
        seconds, found = board.ask(question + more)
        drawn = {series["name"]: series for series in found["runs"][0]["series"]}["loss"]
        print(f"{name}: {seconds}, {len(drawn['x'])} of {drawn['count']} steps")
    print(f"memory: {board.megabytes():.0f} MB")
    board.end()


def time_page(folder: Path) -> None:
    """The page in a browser, from the request to the drawn curve."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        print("page: no chromium with chromedriver here")
        return
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as page:
        for number in range(3):
            board = Served(folder)  # which has read nothing yet
            begun = time.perf_counter()
            page.execute_script("location = arguments[0]", board.address)  # `get` waits for all scripts
            for what, found in (("seen", ".sketch polyline"), ("drawn by plotly", "#plot-loss .scatterlayer .trace")):
                while not page.execute_script(
                    f"return Boolean(document.querySelector('{found}, .scatterlayer .trace'))"
                ):
                    time.sleep(0.01)
                print(f"page {number + 1}: {what} {time.perf_counter() - begun:.2f} s after the request")
            page.get("about:blank")
            board.end()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        long, many = Path(place, "long"), Path(place, "many")
        write_run(long, "long", [start()])
        make_long(long / log_path("long"), asked.events)
        print(f"{asked.events:,} events, {(long / log_path('long')).stat().st_size / 1e6:.0f} MB")
        time_page(long)
        time_long(long)
        make_many(many, asked.runs)
        board = Served(many)
        seconds, found = board.ask("api/runs")
        print(f"{len(found['runs'])} runs: {seconds}, {board.megabytes():.0f} MB")
        board.end()


if __name__ == "__main__":
    main()
