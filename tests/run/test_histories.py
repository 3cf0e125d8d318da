"""Random sequences of commands over the names of one family: no bundle that was whole is ever lost.

`MYPT_HISTORIES=1000 pytest tests/run/test_histories.py` tries as many of them.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typer.testing import CliRunner

from mypt.checkpoint.family import added, is_bundle, record_of
from mypt.checkpoint.files import read_state
from mypt.checkpoint.lineage import role_of
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.cli.app import app
from mypt.run.verify import verify_bundle
from tests.conftest import TINY, tiny_text
from tests.run.faults import Disk, in_child, kill
from tests.run.test_names import contents

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills forked processes"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]
HISTORIES = int(os.environ.get("MYPT_HISTORIES", "25"))
OUT = Path("checkpoints")
RUN = [
    "--input-file", "input.txt", *TINY, "--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8",
    "--batch-size", "2", "--eval-iters", "1", "--eval-interval", "2", "--device", "cpu",
]  # fmt: skip
NAMES = st.sampled_from(["a", "a", "a_gold", "a_fp16", "b"])
THERE = st.integers(0, 11)
"""Which of the folders that are there, counted around."""
ITERS, RATES, BYTES = st.sampled_from(["2", "4", "6"]), st.sampled_from(["1e-2", "3"]), st.integers(0, 2**31)
KILLED_AT = st.just(0) | st.just(0) | st.integers(1, 120)
"""Which change of the disk meets the kill; 0 for none."""


@dataclass(frozen=True)
class Whole:
    """A bundle whose every file is as it was saved."""

    path: Path
    run_id: str | None
    origins: frozenset[str | None]
    step: int
    is_export: bool
    role: str

    @classmethod
    def at(cls, path: Path) -> "Whole":
        """The bundle of a folder.

        Raises:
            BundleError: it is not whole.
        """
        for name in read_manifest(path).files:
            check_file(path / name)
        state = read_state(path)
        origins = frozenset({state.run_id, *(origin.run_id for origin in state.forked_from)})
        return cls(path, state.run_id, origins, state.step, state.optimizer_file is None, role_of(path, state))

    def lives_on_in(self, other: "Whole") -> bool:
        """Whether nothing of this bundle is lost as long as there is the other."""
        if self.run_id not in other.origins or self.is_export != other.is_export:
            return False
        return other.step >= self.step or (other.path == self.path and self.role != "run")


def folders() -> list[Path]:
    """Everything in the folder of bundles that has a name of its own."""
    return sorted(p for p in OUT.glob("*") if not p.name.startswith(".")) if OUT.is_dir() else []


def bundles() -> list[Path]:
    return [path for path in folders() if is_bundle(path)]


def chosen(number: int) -> Path:
    return folders()[number % len(folders())]


def anything_there(_: object) -> bool:
    return bool(folders())


def command(words: list[str], at: int) -> int:
    """Call mypt, in a child that is killed at a change of the disk if `at` is not 0; its exit code."""

    def call() -> int:
        if at:
            Disk(at, kill).install()
        result = CliRunner().invoke(app, words, env={**os.environ, "COLUMNS": "200"})
        said = result.output + result.stderr
        assert "failed unexpectedly" not in said and "Traceback" not in said, said
        return result.exit_code

    code = in_child(call) if at else call()
    assert code in (0, 1, 2, -signal.SIGKILL), (words, at, code)
    event(f"{words[0]}: {code}")
    return code


class Histories(RuleBasedStateMachine):
    """A person, several runs, and a power supply that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: set[str] = set()
        self.written = 0
        self.home = Path(tempfile.mkdtemp())
        os.chdir(self.home)
        Path("input.txt").write_text(tiny_text(), encoding="utf-8")

    def teardown(self) -> None:
        os.chdir("/")
        shutil.rmtree(self.home)

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        before = [Whole.at(path) for path in bundles()]
        yield
        after = [Whole.at(path) for path in bundles()]
        lost = [one for one in before if not any(one.lives_on_in(other) for other in after)]
        assert not lost, f"{lost} lost; there are {after}"

    def call(self, words: list[str], at: int = 0) -> None:
        before = contents(OUT, Path("logs"))
        with self.nothing_lost():
            code = command(words, at)
        if code == 2:
            left = contents(OUT, Path("logs"))
            tidied = {name for name in before if "/." in name}
            assert {n: h for n, h in before.items() if n not in tidied} == {
                n: h for n, h in left.items() if n not in tidied
            }, words

    @initialize(name=NAMES, iters=ITERS)
    def begin(self, name: str, iters: str) -> None:
        self.call(["train", name, *RUN, "--max-iters", iters])

    @rule(name=NAMES, iters=ITERS, fresh=st.booleans(), at=KILLED_AT)
    def train(self, name: str, iters: str, fresh: bool, at: int) -> None:
        self.call(["train", name, *RUN, "--max-iters", iters, *["--fresh"][:fresh]], at)

    @precondition(anything_there)
    @rule(number=THERE, more=st.sampled_from([1, 2, 4]), gold=st.booleans(), lr=RATES, at=KILLED_AT)
    def resume(self, number: int, more: int, gold: bool, lr: str, at: int) -> None:
        path = chosen(number)
        state = record_of(path)
        iters = (state.step if state else 0) + more
        self.call(["resume", path.name, "--max-iters", str(iters), "--lr", lr, *["--from", "gold"][: 2 * gold]], at)

    @precondition(anything_there)
    @rule(number=THERE, out=st.none() | NAMES, at=KILLED_AT)
    def export(self, number: int, out: str | None, at: int) -> None:
        self.call(["export-fp16", chosen(number).name, *(["--out", str(OUT / out)] if out else [])], at)

    @precondition(anything_there)
    @rule(number=THERE, name=NAMES)
    def fork(self, number: int, name: str) -> None:
        if not (OUT / name).exists():
            event("cp -r")
            shutil.copytree(chosen(number), OUT / name)

    @precondition(anything_there)
    @rule(number=THERE, name=NAMES)
    def rename(self, number: int, name: str) -> None:
        if not (OUT / name).exists():
            event("mv")
            chosen(number).rename(OUT / name)

    @precondition(anything_there)
    @rule(number=THERE)
    def remove(self, number: int) -> None:
        event("rm -r")
        path = chosen(number)
        self.notes -= {p.read_text(encoding="utf-8") for p in path.glob("note*")}
        shutil.rmtree(path)

    @rule(name=NAMES)
    def note(self, name: str) -> None:
        """Something of the person's own: in a bundle, or a folder where a bundle would be."""
        event("note")
        self.written += 1
        (OUT / name).mkdir(parents=True, exist_ok=True)
        (OUT / name / f"note{self.written}.txt").write_text(str(self.written), encoding="utf-8")
        self.notes.add(str(self.written))

    @precondition(lambda self: bool(self.notes))
    @rule()
    def take_the_notes_away(self) -> None:
        """As the errors advise."""
        for path in list(OUT.rglob("note*.txt")):
            path.unlink()
            if not list(path.parent.iterdir()):
                path.parent.rmdir()
        self.notes = set()

    @rule(words=st.sampled_from([["inspect"], ["verify"], ["logs", "summarize"]]))
    def look(self, words: list[str]) -> None:
        before = contents(OUT, Path("logs"))
        with self.nothing_lost():
            command(words, 0)
        assert {n: h for n, h in before.items() if "/." not in n}.items() <= contents(OUT, Path("logs")).items()

    @precondition(anything_there)
    @rule(number=THERE, file=st.sampled_from(["model.pt", "config.json", "training_state.json"]), byte=BYTES)
    def damage(self, number: int, file: str, byte: int) -> None:
        """A bit flips; verify says so; the disk is mended."""
        path = chosen(number)
        if is_bundle(path):
            event("bit flipped")
            good = (path / file).read_bytes()
            at = byte % len(good)
            (path / file).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert any(check.ok is False and file in check.found for check in verify_bundle(path))
            (path / file).write_bytes(good)

    @invariant()
    def every_bundle_is_whole(self) -> None:
        for path in folders():
            if is_bundle(path):
                Whole.at(path)
            else:
                assert all(p.name.startswith("note") for p in path.iterdir()), f"{path} is no bundle any more"

    @invariant()
    def no_note_is_lost(self) -> None:
        there = {p.read_text(encoding="utf-8") for p in OUT.rglob("note*.txt")}
        assert self.notes <= there

    @invariant()
    def verify_tells_the_truth(self) -> None:
        for path in bundles():
            wrong = {check.name: check.found for check in verify_bundle(path) if check.ok is False}
            if wrong.pop("files", None) is not None:
                assert added(path)
            if wrong.pop("gold fits record", None) is not None:
                assert not gold_fits(path)
            assert not wrong, (path, wrong)


def gold_fits(path: Path) -> bool:
    """Whether the gold bundle beside a bundle is the one that its record names."""
    state = read_state(path)
    kept = path if role_of(path, state) == "gold" else path.with_name(f"{path.name}_gold")
    there = record_of(kept)
    return there is not None and (there.run_id, there.step) == (state.run_id, state.progress.gold.step)


def test_no_history_of_commands_loses_a_bundle() -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what a forked child can go on with
    here = Path.cwd()
    try:
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=20,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
