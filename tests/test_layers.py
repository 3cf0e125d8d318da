"""The structure: imports point one way, and light verbs stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mypt

SOURCE = Path(mypt.__file__).parent
ORDER = {"schema": 0, "record": 1, "data": 2, "model": 2, "checkpoint": 3, "train": 4, "run": 5, "cli": 6}
UPWARD = {("model/gpt.py", "train"), ("model/gpt.py", "checkpoint"), ("model/gpt.py", "data")}
"""The one door that points upward: `GPT.fit`."""
TORCH_FREE = ["schema", "record", "cli"]
HEAVY = {"torch", "numpy", "tiktoken", "rustbpe", "fsspec"}


def imports_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return found + [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]


def test_imports_point_one_way() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        layer = place.split("/")[0]
        for module in imports_of(path):
            parts = module.split(".")
            if layer not in ORDER or parts[0] != "mypt" or len(parts) < 2 or (place, parts[1]) in UPWARD:
                continue
            if ORDER.get(parts[1], 0) > ORDER[layer]:
                wrong.append(f"{place} imports {module}")
    assert not wrong
    assert len(list(SOURCE.rglob("*.py"))) > 30


def test_packages_are_two_levels_deep_and_modules_short() -> None:
    for path in SOURCE.rglob("*.py"):
        assert len(path.relative_to(SOURCE).parts) <= 2
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = [["--help"], ["--version"], ["resume", "--help"], ["logs", "--help"], ["prepare", "--help"], ["presets"],
         ["presets", "--json"], ["train", "--help"], ["inspect", "--help"],
         ["inspect"], ["inspect", "m"], ["inspect", "m", "--json"], ["train", "x", "--n-embd", "-1"],
         ["compare", "m", "m"]]  # fmt: skip
READING = [["--help"], ["inspect"], ["inspect", "m"], ["inspect", "m", "--json", "--out-dir", "checkpoints"],
           ["compare", "m", "m", "--all", "--width", "80"], ["logs", "summarize", "m"],
           ["logs", "summarize", "--json"], ["logs", "show", "m", "--last", "1", "--event", "eval"],
           ["logs", "export", "m", "--csv", "m.csv"]]  # fmt: skip


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
    from mypt.record.bundle import log_path
    from mypt.record.log import RunLog
    from mypt.schema.events import Eval, timestamp
    from mypt.schema.state import TrainingState
    from mypt.schema.training import TrainingConfig

    folder = tmp_path_factory.mktemp("light")
    config = GPTConfig(n_embd=16, n_head=2, n_layer=1, block_size=8, vocab_size=300, device="cpu")
    state = TrainingState(step=0, training_config=TrainingConfig())
    CheckpointManager("m", folder / "checkpoints").save(GPT(config), Tokenizer.char("abc"), state)
    event = Eval(
        iter=1, timestamp=timestamp(), elapsed_s=1.0, tokens_processed=8, progress_pct=1.0, lr=0.1, phase="main",
        val_loss=2.0, eval_duration_s=0.1,
    )  # fmt: skip
    RunLog(folder / log_path("m")).append(event)
    return folder


def loaded_by(call: list[str], heavy: set[str], folder: Path, exit_code: int = 0) -> str:
    code = f"""
import sys
sys.argv = ["mypt", *{call!r}]
from mypt.cli.app import main
try:
    main()
except SystemExit as leave:
    assert leave.code == {exit_code}, leave.code
print("LOADED", sorted({heavy!r} & sys.modules.keys()))
"""
    return run_python(code, folder).splitlines()[-1]


@pytest.mark.parametrize("call", LIGHT, ids=" ".join)
def test_light_verbs_import_nothing_heavy(call: list[str], bundle_folder: Path) -> None:
    assert loaded_by(call, HEAVY, bundle_folder, 2 if "-1" in call else 0) == "LOADED []"


@pytest.mark.parametrize("call", READING, ids=" ".join)
def test_verbs_that_read_do_without_pydantic_as_well(call: list[str], bundle_folder: Path) -> None:
    assert loaded_by(call, HEAVY | {"pydantic"}, bundle_folder) == "LOADED []"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mypt ins", ["inspect"]),
        ("mypt inspect ", ["m"]),
        ("mypt compare m --pl", ["--plot"]),
        ("mypt logs su", ["summarize"]),
        ("mypt logs summarize m", ["m"]),
        ("mypt train x --max-it", ["--max-iters"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_is_offered_verbs_options_and_names(
    line: str, offered: list[str], shell: str, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MYPT_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS" if shell == "bash" else "_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code = "import sys; sys.argv = ['mypt']; from mypt.cli.app import main; main()"
    shown = run_python(code, bundle_folder)
    assert shown.splitlines() == offered if shell == "bash" else all(f'"{word}"' in shown for word in offered)


@pytest.mark.parametrize("package", TORCH_FREE)
def test_light_layers_import_nothing_heavy(package: str, tmp_path: Path) -> None:
    names = [f"mypt.{package}.{p.stem}" for p in (SOURCE / package).glob("*.py") if p.stem not in ("__init__", "watch")]
    names += ["mypt", *(f"mypt.train.{m}" for m in ("schedule", "gold", "stop", "clock", "start", "observer"))]
    code = (
        f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint({HEAVY!r} & sys.modules.keys())"
    )
    assert run_python(code, tmp_path).strip() == "set()"


def test_the_public_names_are_these() -> None:
    assert sorted(mypt.__all__) == [
        "CheckpointManager", "GPT", "GPTConfig", "GPTDataLoader", "Tokenizer", "TrainingConfig", "get_model_info",
    ]  # fmt: skip
    assert all(getattr(mypt, name).__name__ == name for name in mypt.__all__)
