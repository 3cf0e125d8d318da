"""Trackers show what the log holds, while a run trains and afterwards, and nothing that they do touches the run."""

import importlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]

from mypt.checkpoint.tensors import load_tensors
from mypt.errors import UsageError
from mypt.log.reader import read_events
from mypt.mirror import trackers
from mypt.mirror.live import Mirrors
from mypt.mirror.points import point_of
from mypt.mirror.tensorboard import EventFiles
from mypt.schema.files.log_line import json_line
from mypt.train import observer
from tests.conftest import SHORT, Mypt, flat

FAKES = {
    "trackio": """
def init(
    project, name=None, group=None, space_id=None, server_url=None, dataset_id=None, bucket_id=None, config=None,
    resume="never", settings=None, private=None, embed=True, auto_log_gpu=None, gpu_log_interval=10.0,
    auto_log_cpu=None, cpu_log_interval=10.0, webhook_url=None, webhook_min_level=None,
):
    return began(dict(locals()))

class Run(Fake):
    def log(self, metrics, step=None):
        self.took({"iter": step, **metrics})

    def finish(self):
        self.ended()
""",
    "wandb": """
def init(
    entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None,
    config_exclude_keys=None, config_include_keys=None, allow_val_change=None, group=None, job_type=None, mode=None,
    force=None, reinit=None, resume=None, resume_from=None, fork_from=None, save_code=None, tensorboard=None,
    sync_tensorboard=None, monitor_gym=None, settings=None, anonymous=None,
):
    return began(dict(locals()))

class Run(Fake):
    def define_metric(self, name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None):
        pass

    def log(self, data, step=None, commit=None):
        assert step is None
        self.took(data)

    def finish(self, exit_code=None):
        self.ended()
""",
}
"""Modules with the signatures of trackio 0.43 and wandb 0.31 that write down how they are called."""
RECORDER = """
import json, time
from pathlib import Path

FAULT = {fault!r}

def fault(at):
    if FAULT == at:
        raise RuntimeError("the tracker is broken\\nin many words")
    if FAULT == at + " exits":
        raise SystemExit(3)
    if FAULT == at + " hangs":
        time.sleep(60)

def note(call, content):
    with Path({calls!r}).open("a") as file:
        file.write(json.dumps([call, content]) + "\\n")

def began(arguments):
    fault("init")
    note("init", arguments)
    return Run()

class Fake:
    def took(self, content):
        fault("log")
        note("log", content)

    def ended(self):
        fault("finish")
        note("finish", None)

fault("import")
"""

Fake = Callable[[str, str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Installs a fake tracker that fails at one point, or nowhere; returns the file with its calls."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))

    def install(kind: str, fault: str = "") -> Path:
        calls = tmp_path / f"{kind}.calls"
        code = RECORDER.format(fault=fault, calls=str(calls)) + FAKES[kind]
        (place / f"{kind}.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, kind, raising=False)
        importlib.invalidate_caches()
        return calls

    yield install
    for kind in FAKES:
        sys.modules.pop(kind, None)


def calls_of(file: Path) -> list[tuple[str, Any]]:
    return [(call, content) for call, content in map(json.loads, file.read_text(encoding="utf-8").splitlines())]


def log_of(name: str) -> list[dict[str, Any]]:
    return list(read_events(Path(f"logs/train/{name}_eval.jsonl")))


def trajectory(name: str) -> list[dict[str, Any]]:
    """What a log says but for its times and its run."""
    timed = ("timestamp", "_s", "_h", "started_at", "per_sec", "tflops", "mfu", "run_id")
    return [{k: v for k, v in event.items() if not k.endswith(timed)} for event in log_of(name)]


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_tracker_gets_every_event_and_a_resumed_run_goes_on_there(kind: str, mypt: Mypt, fake: Fake) -> None:
    calls = fake(kind, "")
    mypt("train", "x", *SHORT, "--log-interval", "1", "--mirror", kind)
    mypt("resume", "x", "--max-iters", "6", "--mirror", kind)
    made, events = calls_of(calls), log_of("x")
    assert [call for call, _ in made].count("finish") == 2 and made[-1][0] == "finish"
    inits, rows = ([content for call, content in made if call == wanted] for wanted in ("init", "log"))
    run_id = events[0]["run_id"]
    assert [(i["project"], i["resume"], i["config"]["max_iters"]) for i in inits] == [
        ("mypt", "allow", 4), ("mypt", "allow", 6),
    ]  # fmt: skip
    assert {i["id"] if kind == "wandb" else i["name"] for i in inits} == {run_id if kind == "wandb" else f"x-{run_id}"}
    assert inits[0]["config"]["learning_rate"] == 0.01 and inits[0]["config"]["n_layer"] == 1
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        if event["event"] == "eval":
            found = row["iter"], row["loss/val"], row["loss/train"], row["run/lr"]
            assert found == (event["iter"], event["val_loss"], event["train_loss"], event["lr"])
        elif event["event"] == "step":
            assert (row["iter"], row["loss/step"]) == (event["iter"], event["loss"])
        elif event["event"] == "gold_checkpoint":
            assert (row["iter"], row["gold_checkpoint/val_loss"]) == (event["iter"], event["val_loss"])
        elif event["event"] == "training_complete":
            assert row["training_complete/final_val_loss"] == event["final_val_loss"]
    fake(kind, "")
    calls.unlink()
    told = mypt("logs", "mirror", "x", "--to", kind).output
    again = calls_of(calls)
    assert again[0][1]["resume"] == "never" and f"Sent {len(events)} events to {kind}." in told
    assert [content for call, content in again if call == "log"] == rows


def curves(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), {"tensors": 0})
    found.Reload()
    return found


def test_tensorboard_shows_a_run_as_it_goes_on_and_afterwards_the_same(mypt: Mypt) -> None:
    mypt("train", "x", *SHORT, "--log-interval", "1", "--mirror", "tensorboard")
    mypt("resume", "x", "--max-iters", "6", "--mirror", "tensorboard")
    events = log_of("x")
    live = Path(f"logs/tensorboard/x-{events[0]['run_id']}")
    refused = mypt("logs", "mirror", "x", "--to", "tensorboard", ok=False)
    assert refused.exit_code == 2 and "already holds" in flat(refused.stderr)
    mypt("logs", "mirror", "x", "--to", "tensorboard", "--out", "tb")
    for folder in (live, Path("tb")):
        found = curves(folder)

        def curve(name: str, found: EventAccumulator = found) -> list[tuple[int, float]]:
            return [(e.step, float(make_ndarray(e.tensor_proto))) for e in found.Tensors(name)]

        for name, event, column in (("loss/val", "eval", "val_loss"), ("loss/step", "step", "loss")):
            wanted = [(e["iter"], e[column]) for e in events if e["event"] == event]
            assert [step for step, _ in curve(name)] == [step for step, _ in wanted] != []
            assert [v for _, v in curve(name)] == pytest.approx([v for _, v in wanted], rel=1e-6)
        hparams = found.PluginTagToContent("hparams")
        assert b"learning_rate" in hparams["_hparams_/session_start_info"]
        assert "gold_checkpoint/val_loss" in found.Tags()["tensors"]


FAULTS = [
    *(f"{at}{how}" for at in ("import", "init", "log", "finish") for how in ("", " exits")),
    "init hangs", "log hangs", "finish hangs",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_no_fault_of_a_tracker_touches_the_run(
    kind: str, mypt: Mypt, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "CLOSE_S", 0.3)
    mypt("train", "without", *SHORT, "--log-interval", "1")
    weights, wanted = load_tensors(Path("checkpoints/without/model.pt")), trajectory("without")
    for i, fault in enumerate(["", *FAULTS]):
        fake(kind, fault)
        told = flat(mypt("train", f"x{i}", *SHORT, "--log-interval", "1", "--mirror", kind).output)
        assert told.count("The mirror in ") == (1 if fault else 0), fault
        assert "in many words" not in told
        made = load_tensors(Path(f"checkpoints/x{i}/model.pt"))
        assert all(torch.equal(weights[name], made[name]) for name in weights), fault
        assert json_line({"all": trajectory(f"x{i}")}).replace(f"x{i}", "without") == json_line({"all": wanted}), fault


def test_a_tracker_that_falls_behind_is_given_up(mypt: Mypt, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mypt.mirror.live.WAITING", 2)
    fake("wandb", "init hangs")
    told = flat(mypt("train", "x", *SHORT, "--log-interval", "1", "--mirror", "wandb").output)
    assert told.count("it is 2 events behind") == 1 and told.count("The mirror in") == 1


@pytest.mark.parametrize("kind", trackers.TRACKERS)
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    kind: str, mypt: Mypt, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    result = mypt("train", "x", *SHORT, "--mirror", kind, ok=False)
    assert result.exit_code == 2 and f"pip install 'mypt[{kind}]'" in flat(result.stderr)
    assert not (folder / "checkpoints").exists() and not (folder / "logs").exists()
    monkeypatch.undo()


def test_a_failure_afterwards_is_an_error_and_an_unknown_tracker_is_named(mypt: Mypt, fake: Fake) -> None:
    mypt("train", "x", *SHORT)
    faults = {"log": "RuntimeError: the tracker is broken.", "init exits": "SystemExit: 3.", "import": "broken."}
    for fault, said in faults.items():
        fake("wandb", fault)
        failed = mypt("logs", "mirror", "x", "--to", "wandb", ok=False)
        assert failed.exit_code == 1 and f"{said} Mend what it names" in flat(failed.stderr)
    for call in (["train", "y", *SHORT, "--mirror", "mlflow"], ["logs", "mirror", "x", "--to", "mlflow"]):
        refused = mypt(*call, ok=False)
        assert refused.exit_code == 2 and "tensorboard" in flat(refused.stderr)


def test_lines_of_a_log_that_cannot_be_sent_are_counted(mypt: Mypt, fake: Fake) -> None:
    mypt("train", "x", *SHORT)
    log = Path("logs/train/x_eval.jsonl")
    whole = log.read_text(encoding="utf-8")
    fake("wandb", "")
    assert "could not be read" not in mypt("logs", "mirror", "x", "--to", "wandb").output
    log.write_text(whole + "{half a line\n", encoding="utf-8")
    assert f"1 line of {log.absolute()} could not be read." in flat(mypt("logs", "mirror", "x", "--to", "wandb").output)


def test_a_tracker_that_is_named_twice_gets_everything_once(mypt: Mypt, fake: Fake) -> None:
    calls = fake("wandb", "")
    mypt("train", "x", *SHORT, "--mirror", "wandb", "--mirror", "wandb")
    assert [call for call, _ in calls_of(calls)].count("init") == 1


def test_trackers_that_hang_share_the_time_at_the_end_and_keep_no_program_alive(fake: Fake) -> None:
    for kind in ("trackio", "wandb"):
        fake(kind, "init hangs")
    told: list[str] = []
    mirrors = Mirrors(["trackio", "wandb"], "x", told.append)
    mirrors.send({"event": "training_complete", "total_steps": 1})
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("mirror-")]
    assert len(threads) >= 2 and all(thread.daemon for thread in threads)
    began = time.monotonic()
    mirrors.close(1.0)
    assert time.monotonic() - began < 1.8 and len(told) == 2


def test_a_point_has_the_time_of_its_event_and_no_number_that_is_an_answer(tmp_path: Path) -> None:
    point = point_of({"event": "gold_checkpoint", "iter": 3, "timestamp": "2020-01-01T00:00:00+00:00", "val_loss": 2.0,
                      "first": True})  # fmt: skip
    assert dict(point.numbers) == {"gold_checkpoint/val_loss": 2.0}
    files = EventFiles(tmp_path)
    files.add_point(point)
    files.close()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    (shown,) = found.Tensors("gold_checkpoint/val_loss")
    assert (shown.wall_time, shown.step) == (1577836800.0, 3)


def test_a_folder_of_the_name_of_a_tracker_is_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_mere_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds: Any = ["a_mere_folder"]
    with pytest.raises(UsageError, match="not installed"):
        trackers.check_installed(kinds)
