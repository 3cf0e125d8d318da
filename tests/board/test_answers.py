"""What the board answers, and to whom."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mypt.board import folder as board_folder
from mypt.board.app import application
from mypt.board.folder import Board, Pages
from mypt.board.places import RunPlace
from mypt.board.rows import Row, row_of
from mypt.checkpoint.layout import log_path
from mypt.checkpoint.lock import locked
from mypt.cli.render.board import comparison_page, inspect_page
from tests.board.runs import HOSTILE, course, evaluation, grow, start, step, write_log, write_run
from tests.conftest import reseal

PORT = 4711
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def runs(folder: Path) -> Path:
    """A folder with two runs, one under a hostile name, and a log that has no bundle."""
    write_run(folder, "dante")
    write_run(folder, HOSTILE, run_id="another")
    write_log(folder / log_path("alone"), course(3, run_id="third"))
    return folder


def asking(is_over: Callable[[], bool] = lambda: False) -> TestClient:
    board = Board(Path("checkpoints"), Pages(comparison_page, inspect_page))
    return TestClient(application(board, PORT, is_over), base_url=HERE)


@pytest.fixture
def client(runs: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    assert runs.is_dir()
    monkeypatch.setattr(board_folder, "LOOK_S", 0.0)
    return asking()


@pytest.fixture
def bare(folder: Path) -> TestClient:
    """Of a folder that is not there yet."""
    assert folder.is_dir()
    return asking()


def rows(client: TestClient) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get("/api/runs").json()["runs"]}


def test_the_table_has_every_run_once(client: TestClient) -> None:
    shutil.copytree("checkpoints/dante", "checkpoints/dante_gold")
    found = rows(client)
    assert set(found) == {"dante", HOSTILE, "alone"}
    dante = found["dante"]
    assert (dante["step"], dante["max_iters"], dante["val"], dante["best_val"]) == (50, 100, 2.5, 2.4)
    assert (dante["bpb"], dante["tokens_per_sec"], dante["tags"]) == (3.5, 64, [])
    files = [p for name in ("dante", "dante_gold") for p in Path("checkpoints", name).iterdir()]
    assert dante["bytes"] == sum(p.stat().st_size for p in [*files, log_path("dante")])
    assert found["alone"]["val"] == 2.7 and found["alone"]["step"] == 30


def test_states_are_those_of_the_lock_and_the_log(client: TestClient) -> None:
    assert rows(client)["dante"]["state"] == "crashed"
    with locked(Path("checkpoints/dante"), lambda _: None):
        running = rows(client)["dante"]
        assert running["state"] == "running"
        assert running["eta_s"] == pytest.approx(25.0)  # 50 steps at half a second
    more = {"timestamp": "2026-03-14T09:20:00.1", "run_id": start()["run_id"], "attempt": 1}
    stop = {"event": "training_stopped", "iter": 50, "elapsed_s": 26.0, "tokens_processed": 1600, "reason": "SIGINT"}
    grow(log_path("dante"), {**stop, **more})
    assert (rows(client)["dante"]["state"], rows(client)["dante"]["why"]) == ("stopped", "SIGINT")
    Path("checkpoints/dante/training_state.json").write_text("{")
    assert rows(client)["dante"]["state"] == "damaged"


def test_a_run_is_seen_from_its_first_line_on_before_any_bundle(client: TestClient) -> None:
    with locked(Path("checkpoints/new"), lambda _: None):
        log = write_log(log_path("new"), [start(run_id="new")])
        grow(log, step(3, 2.9, run_id="new"))
        row = rows(client)["new"]
        assert (row["state"], row["step"], row["max_iters"], row["val"]) == ("running", 3, 100, None)
        assert row["eta_s"] == pytest.approx(97 * 32 / 64)
        (drawn,) = client.get("/api/series", params={"run": row["id"], "x": "time"}).json()["runs"]
        assert {s["name"]: s["x"] for s in drawn["series"]}["loss"] == [1.5]
        assert client.get("/api/run", params={"run": row["id"]}).json()["config"]
    write_run(Path(), "new", [start(run_id="new"), evaluation(10, 2.9, "new")], "new")
    bundle = Path("checkpoints/new")
    bundle.rename("checkpoints/new_gold")  # which may be saved first
    assert rows(client)["new"]["id"] == row["id"]
    shutil.copytree("checkpoints/new_gold", bundle)
    found = rows(client)
    assert found["new"]["id"] == row["id"] and "new_gold" not in found
    shutil.rmtree("checkpoints/new")
    shutil.rmtree("checkpoints/new_gold")
    shutil.rmtree("logs")
    assert set(rows(client)) == {"dante", HOSTILE}


def test_series_are_drawn_over_tokens_steps_and_time(client: TestClient) -> None:
    run = rows(client)["dante"]["id"]
    for axis, end in (("tokens", 1600), ("steps", 50), ("time", 25)):
        (drawn,) = client.get("/api/series", params={"run": run, "x": axis, "smooth": "0.5"}).json()["runs"]
        series = {s["name"]: s for s in drawn["series"]}
        assert set(series) == {"val_loss", "eval_poems", "train_loss", "loss", "lr", "tokens_per_sec", "grad_norm"}
        assert series["val_loss"]["x"][-1] == end and series["val_loss"]["y"][-1] == 2.5
        assert series["loss"]["exact"] and len(series["loss"]["x"]) == 25
        assert len(series["loss"]["smooth"]["y"]) == 25 and "smooth" not in series["lr"]
        assert drawn["share"] == 1.0 and [m["kind"] for m in drawn["marks"]] == ["gold"] * 5


def test_new_points_come_with_the_next_question(client: TestClient) -> None:
    run = rows(client)["dante"]["id"]

    def last() -> Any:
        (drawn,) = client.get("/api/series", params={"run": run, "x": "steps"}).json()["runs"]
        return {s["name"]: s["x"][-1] for s in drawn["series"]}["val_loss"]

    assert last() == 50
    grow(log_path("dante"), evaluation(60, 2.4))
    assert last() == 60 and rows(client)["dante"]["step"] == 60


@pytest.mark.usefixtures("runs")
def test_the_stream_tells_of_what_changed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_folder, "LOOK_S", 0.0)
    monkeypatch.setattr("mypt.board.app.POLL_S", 0.01)
    looks = 0

    def is_over() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            grow(log_path("dante"), evaluation(60, 2.4))
        if looks == 5:
            log_path("alone").unlink()
        return looks > 8

    client = asking(is_over)
    version = client.get("/api/runs").json()["version"]
    alone = rows(client)["alone"]["id"]
    answer = client.get("/api/events", params={"since": version})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [[row["name"] for row in news["runs"]] for news in told] == [["dante"], []]
    assert [news["gone"] for news in told] == [[], [alone]]
    assert told[0]["runs"][0]["step"] == 60


@pytest.mark.usefixtures("runs")
def test_a_page_that_comes_back_is_told_what_it_missed() -> None:
    over = iter([False, True] * 4)
    client = asking(lambda: next(over))
    birth, version = client.get("/api/runs").json()["version"].split("-")
    told = [f"{birth}-{int(version) - 1}", f"{birth}-{version}", f"other-{version}", "nonsense"]
    answers = [client.get("/api/events", headers={"Last-Event-ID": last}).text for last in told]
    rows = [len(json.loads(line[6:])["runs"]) for text in answers for line in text.splitlines() if line[:5] == "data:"]
    assert rows == [1, 3, 3]


def test_the_comparison_is_that_of_the_verb(client: TestClient) -> None:
    found = rows(client)
    ids = [found["dante"]["id"], found[HOSTILE]["id"], found["alone"]["id"]]
    page = client.get("/api/compare", params={"run": ids[:2]}).json()
    assert page["verdict"] == "Not comparable." and "does not tell its validation data" in " ".join(page["reasons"])
    results = next(s for s in page["sections"] if s["title"] == "Results")
    assert results["heads"] == ["", "dante", HOSTILE]
    assert next(row for row in results["rows"] if row[0] == "best_val_loss")[1] == "2.4000"
    assert client.get("/api/compare", params={"run": ids}).status_code == 200
    assert client.get("/api/compare", params={"run": ids[:1]}).status_code == 404


def test_a_runs_page_is_what_inspect_and_the_log_know(client: TestClient) -> None:
    run = rows(client)["dante"]["id"]
    page = client.get("/api/run", params={"run": run}).json()
    titles = [section["title"] for section in page["sections"]]
    assert titles == ["Settings", "Architecture", "Parameters", "Tokenizer and data", "Files"]
    assert ["max_iters", "100"] in page["sections"][0]["rows"]
    assert [a["name"] for a in page["lineage"]] == ["dante"]
    assert [mark["step"] for mark in page["gold"]] == [10, 20, 30, 40, 50]
    Path("checkpoints/dante/config.json").write_text("{")
    assert "config.json" in client.get("/api/run", params={"run": run}).json()["fault"]


@pytest.mark.parametrize(
    "run",
    ["dante", "..", "../../etc/passwd", "checkpoints/dante", "logs/train/dante_eval.jsonl", "/etc/passwd", "", "\0",
     "%2e%2e", HOSTILE, "<script>"],
)  # fmt: skip
@pytest.mark.parametrize("question", ["series", "run", "compare"])
def test_no_word_of_the_caller_names_a_file(bare: TestClient, question: str, run: str) -> None:
    answer = bare.get(f"/api/{question}", params={"run": [run, "x"]} if question == "compare" else {"run": run})
    assert answer.status_code == 404 and set(answer.json()) == {"error", "todo"}


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/", "/static/pages", "/etc/passwd",
     "//etc/passwd", "/static/board.py", "/static/\\..\\app.py", "/api", "/api/board"],
)  # fmt: skip
def test_there_is_nothing_behind_other_addresses(bare: TestClient, path: str) -> None:
    assert bare.get(path).status_code == 404


def test_the_page_is_made_of_its_own_files(bare: TestClient) -> None:
    page = bare.get("/")
    assert page.status_code == 200 and "<h1>mypt board</h1>" in page.text and "http" not in page.text.replace("<!", "")
    for name in ("board.css", "board.js", "charts.js", "dom.js", "pages.js", "table.js", "theme.js", "units.js"):
        assert bare.get(f"/static/{name}").status_code == 200
    assert "plotly.js v" in bare.get("/plotly.js").text[:200]


def test_no_text_becomes_markup_and_no_page_is_asked_of_elsewhere() -> None:
    pages = Path(board_folder.__file__).parent / "pages"
    for path in pages.iterdir():
        text = path.read_text(encoding="utf-8").replace('"http://www.w3.org/2000/svg"', "")  # a name, not an address
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "cookie",
            "http:",
            "https:",
        ):
            assert word not in text, f"{path.name}: {word}"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (f"127.0.0.1:{PORT}", 200),
        (f"localhost:{PORT}", 200),
        (f"LOCALHOST:{PORT}", 200),
        ("127.0.0.1", 421),
        ("localhost", 421),
        (f"127.0.0.1:{PORT + 1}", 421),
        (f"evil.example:{PORT}", 421),
        (f"127.0.0.1.evil.example:{PORT}", 421),
        (f"evil@127.0.0.1:{PORT}", 421),
        ("", 421),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/runs", "/plotly.js"])
def test_it_answers_by_its_own_address_alone(bare: TestClient, host: str, status: int, path: str) -> None:
    assert bare.get(path, headers={"Host": host}).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/runs", "/static/board.js", "/nowhere"])
def test_it_can_only_be_read(bare: TestClient, method: str, path: str) -> None:
    assert bare.request(method, path).status_code == 405


def test_every_answer_says_what_a_browser_may_do_with_it(bare: TestClient) -> None:
    for answer in (bare.get("/"), bare.get("/nowhere"), bare.get("/", headers={"Host": "evil"}), bare.post("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "asked",
    [{"x": "nonsense"}, {"from": "nan"}, {"to": "inf"}, {"from": "9", "to": "1"}, {"smooth": "7"}, {"points": "-1"},
     {"points": "1e300"}, {"from": "1e308", "to": "1e309"}, {"smooth": "<b>"}, {"from": "-1e308"}],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_as_far_as_it_does(client: TestClient, asked: dict[str, str]) -> None:
    run = rows(client)["dante"]["id"]
    (drawn,) = client.get("/api/series", params={"run": run, **asked}).json()["runs"]
    assert len(drawn["series"]) == 7


@pytest.mark.skipif(os.name != "posix", reason="only there can a name be any bytes")
def test_names_and_texts_of_any_bytes_are_shown(folder: Path) -> None:
    write_run(folder, "good")
    odd = os.fsdecode(b"b\xff\x1b[31m\xe2\x80\xae.d")
    shutil.copytree("checkpoints/good", Path("checkpoints", odd))
    write_log(
        log_path(odd), [{**event, "phase": "</script>\x1b\udc80"} for event in course(2) if event["event"] != "x"]
    )
    client = asking()
    found = rows(client)
    name = next(name for name in found if name.startswith("b"))
    assert name.isprintable() and "\x1b" not in name
    for question in ("series", "run"):
        assert client.get(f"/api/{question}", params={"run": found[name]["id"]}).status_code == 200


def test_numbers_that_are_none_become_gaps(client: TestClient) -> None:
    grow(log_path("dante"), {**evaluation(60, 1.0), "val_loss": None, "nonfinite": {"val_loss": "nan"}})
    run = rows(client)["dante"]
    assert run["val"] is None
    (drawn,) = client.get("/api/series", params={"run": run["id"]}).json()["runs"]
    assert next(s for s in drawn["series"] if s["name"] == "val_loss")["y"][-1] is None


def test_a_log_that_is_none_is_said_to_be_so(client: TestClient) -> None:
    log = log_path("alone")
    log.write_bytes(b"\x00\xff no log at all\n")
    row = rows(client)["alone"]
    assert row["state"] == "unfinished" and row["step"] is None
    assert client.get("/api/series", params={"run": row["id"]}).json()["runs"][0]["series"] == []
    log.unlink()
    os.mkfifo(log)
    assert "alone" not in rows(client) or rows(client)["alone"]["state"] == "damaged"


def test_of_two_hundred_runs_only_what_changed_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(folder, "r000", course(40))
    for number in range(1, 200):
        name, bundle = f"r{number:03}", Path(f"checkpoints/r{number:03}")
        shutil.copytree("checkpoints/r000", bundle)
        state = bundle / "training_state.json"
        state.write_text(state.read_text().replace("r000", name))
        reseal(bundle, 50)
        shutil.copy(log_path("r000"), log_path(name))
    board = Board(Path("checkpoints"), Pages(comparison_page, inspect_page))
    monkeypatch.setattr(board_folder, "LOOK_S", 0.0)
    version, found, _ = board.changes()
    assert len(found) == 200 and len({row["id"] for row in found}) == 200
    read: list[object] = []

    def counted(place: RunPlace) -> Row:
        read.append(place)
        return row_of(place)

    monkeypatch.setattr(board_folder, "row_of", counted)
    monkeypatch.setattr("mypt.board.places.read_state", read.append)
    assert board.changes(version) == (version, [], []) and read == []
    grow(log_path("r007"), evaluation(410, 2.0))
    assert [row["name"] for row in board.changes(version)[1]] == ["r007"] and len(read) == 1


def test_a_bundle_whose_manifest_lacks_the_weights_is_shown_as_far_as_it_can_be(client: TestClient) -> None:
    Path("checkpoints/dante/model.pt").unlink()
    reseal(Path("checkpoints/dante"), 50)
    found = rows(client)
    answer = client.get("/api/compare", params={"run": [found["dante"]["id"], found[HOSTILE]["id"]]})
    assert answer.status_code == 200 and answer.json()["verdict"] == "Not comparable."
    page = client.get("/api/run", params={"run": found["dante"]["id"]}).json()
    assert "model.pt" in page["fault"] and page["gold"]


def test_samples_are_shown_as_they_were_generated(client: TestClient) -> None:
    written = "</pre><script>window.hacked = 1</script>\x1b[2J  and so on\n"
    sample = {"event": "sample", "iter": 50, "timestamp": "2026-03-14T09:20:00.1", "duration_s": 0.1, "seed": 1}
    grow(log_path("dante"), {**sample, "prompt": "Nel ", "text": written, "run_id": start()["run_id"], "attempt": 1})
    (shown,) = client.get("/api/run", params={"run": rows(client)["dante"]["id"]}).json()["samples"]
    assert (shown["iter"], shown["prompt"]) == ("50", "Nel ")
    assert shown["text"] == written.replace("\x1b", "\\x1b")
