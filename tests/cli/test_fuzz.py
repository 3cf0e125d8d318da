"""A few hundred calls that nobody meant; `benchmarks/fuzz_calls.py` makes as many as one likes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_calls.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_calls", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_calls"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("seed", [11, 12])
def test_no_call_ends_as_none_may(seed: int) -> None:
    assert script().fuzz(120, seed) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('x')", "failed unexpectedly"),
        ("import time; time.sleep(30)", "takes more than"),
        ("bytearray(3 << 30)", None),  # which is told as what it is
        ("raise BaseException('a panic of another language')", "panic"),
        ("print('\\x1b[2J')", "lets a terminal act"),
        ("raise SystemExit(70)", "ends with 70"),
    ],
)
def test_the_script_finds_what_it_looks_for(body: str, why: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mypt.cli.render import settings

    module = script()
    monkeypatch.setattr(module, "HANG_S", 1)
    monkeypatch.setattr(settings, "presets_table", lambda: exec(body))
    found = module.fault_of(["presets"])
    assert found is None if why is None else why in found, found
