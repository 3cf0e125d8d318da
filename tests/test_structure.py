"""The structure: imports point one way, and light verbs stay light."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import mypt
from mypt.cli.app import VERBS, app

SOURCE = Path(mypt.__file__).parent
ORDER = {
    "commit": 0, "errors": 0, "launch": 0, "regular": 0, "signals": 0, "threads": 0, "units": 0,
    "visible": 0, "schema": 1,
    "checkpoint": 2, "log": 2, "mirror": 2, "data": 2, "model": 2, "exchange": 3, "train": 4, "api": 5, "run": 6,
    "board": 7, "order": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
"""The rooms, from the lowest up; `mypt` itself names things of all of them, and imports them when they are used."""
ROOM = 14
"""Modules that one folder may hold."""
VERB_MODULES = ("mypt.cli.verbs.", "mypt.cli.record.", "mypt.cli.order.")
HEAVY = {"torch", "numpy", "tiktoken", "rustbpe", "fsspec"}
MODULES = {
    ".".join(("mypt", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """Every module of mypt that a file imports, within functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{a.name}" for a in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return {name for name in found if name.split(".")[0] == "mypt"}


IMPORTS = {name: imports_of(path) - {name} for name, path in MODULES.items() if name != "mypt"}


def test_imports_point_one_way() -> None:
    wrong = []
    for name, imported in IMPORTS.items():
        for other in imported - {"mypt"}:
            if ORDER[other.split(".")[1]] > ORDER[name.split(".")[1]]:
                wrong.append(f"{name} imports {other}")
    assert not wrong and len(IMPORTS) > 60


def test_no_file_imports_another_in_a_circle() -> None:
    left = {name: imported & IMPORTS.keys() for name, imported in IMPORTS.items()}
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert not left


def test_rooms_modules_and_functions_are_of_a_size_to_be_read() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        held = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
        assert len(held) <= ROOM, folder
    for path in MODULES.values():
        assert len(path.relative_to(SOURCE).parts) <= 3, path
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = [["--help"], ["--version"], ["resume", "--help"], ["logs", "--help"], ["prepare", "--help"], ["presets"],
         ["presets", "--json"], ["train", "--help"], ["train", "--help-all"], ["inspect", "--help"],
         ["inspect"], ["inspect", "m"], ["inspect", "m", "--json"], ["train", "x", "--n-embd", "-1"],
         ["compare", "m", "m"], ["board", "--help"], ["du"], ["prune"], ["tag"], ["tag", "m", "--help"],
         ["mv", "m", "m", "--help"], ["rm", "m", "--help"]]  # fmt: skip


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
    from mypt.checkpoint.layout import log_path
    from mypt.log.writer import RunLog
    from mypt.schema.files.events import Eval, timestamp
    from mypt.schema.files.state import TrainingState
    from mypt.schema.settings.training import TrainingConfig

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


def test_a_call_loads_the_module_of_its_own_verb_alone(bundle_folder: Path) -> None:
    verbs = {name for name in MODULES if name.startswith(VERB_MODULES)}
    assert loaded_by(["inspect", "m"], verbs, bundle_folder) == "LOADED ['mypt.cli.record.inspect']"
    assert loaded_by(["resume", "--help"], verbs, bundle_folder) == "LOADED ['mypt.cli.verbs.resume']"
    assert loaded_by(["inspekt"], verbs, bundle_folder, 2) == "LOADED []"


@pytest.mark.parametrize("call", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_is_made_of_settings_and_loads_no_description_of_a_file(call: list[str], bundle_folder: Path) -> None:
    rooms = ("checkpoint.files", "data", "exchange", "log", "mirror", "model", "run", "schema.files", "train")
    read = {name for name in MODULES if name.startswith(tuple(f"mypt.{room}" for room in rooms))}
    assert loaded_by(call, read, bundle_folder) == "LOADED []"


def test_the_table_of_verbs_is_that_of_their_modules() -> None:
    assert {f"mypt.cli.{module}" for module in VERBS.values()} == {
        name for name in MODULES if name.startswith(VERB_MODULES)
    }
    group: Any = get_command(app)
    assert list(group.commands) == list(VERBS)
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in VERBS:
        command = group.commands[name]
        assert command.name == name and command.help and f"\n  {name} " in shown


def test_a_verb_is_a_function_whose_parameters_are_those_that_it_takes() -> None:
    from mypt.cli.record.inspect import inspect as verb

    assert list(inspect.signature(verb).parameters) == [
        "ctx", "name", "model_name", "out_dir", "sort", "tensors", "tag", "parts", "as_json",
    ]  # fmt: skip
    group: Any = get_command(app)
    assert inspect.unwrap(group.commands["inspect"].callback) is verb


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mypt ins", ["inspect"]),
        ("mypt inspect ", ["m"]),
        ("mypt compare m --pl", ["--plot"]),
        ("mypt logs su", ["summarize"]),
        ("mypt logs summarize m", ["m"]),
        ("mypt train x --max-it", ["--max-iters"]),
        ("mypt train x --preset t", ["tiny"]),
        ("mypt train x --pos-encoding r", ["rope"]),
        ("mypt train x --mirror t", ["tensorboard", "trackio"]),
        ("mypt resume m --from ", ["gold"]),
        ("mypt inspect --sort t", ["tokens"]),
        ("mypt logs plot m --over t", ["tokens", "time"]),
        ("mypt logs show m --event gold_b", ["gold_blocked"]),
        ("mypt config check x --preset t", ["tiny"]),
        ("mypt mv ", ["m"]),
        ("mypt tag ", ["m"]),
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


WITH_TORCH = (
    r"mypt\.(api|exchange\.hf\.(code|folder|incoming_weights|reader|remote|tokenizer|vocabulary|weights)"
    r"|exchange\.gguf\.(file|tensors|tokenizer)|exchange\.(gpt2|incoming|llmc|nanogpt)|checkpoint\.(manager|stored|tensors|parts\.dcp)"
    r"|data\.(?!prepare$).+|model\.(?!(cost|shapes)$).*|run\.(?!settings$).+"
    r"|cli\.render\.progress|order\.fork|train\.(?!gold$|observer$|optim\.schedule$|stop$).+|__main__)"
)
"""Every other module does without: whatever a verb that reads is made of."""


def test_modules_that_readers_are_made_of_import_nothing_heavy(tmp_path: Path) -> None:
    light = sorted(name for name in MODULES if not re.fullmatch(WITH_TORCH, name))
    assert len(light) > 50
    code = "import importlib, sys\n"
    code += f"for name in {light!r}:\n    importlib.import_module(name)\n"
    code += f"    assert not {HEAVY!r} & sys.modules.keys(), name"
    run_python(code, tmp_path)


def test_one_process_loads_nothing_for_weights_in_parts(tmp_path: Path) -> None:
    """Which takes most of a second."""
    code = "import sys, mypt.run.train, mypt.run.parallel.follow\n"
    heavy = {f"torch.distributed.{name}" for name in ("checkpoint", "fsdp", "tensor")}
    run_python(code + f"assert not {heavy!r} & sys.modules.keys()", tmp_path)


def test_the_public_names_are_these() -> None:
    assert sorted(mypt.__all__) == [
        "CheckpointManager", "GPT", "GPTConfig", "GPTDataLoader", "Tokenizer", "TrainingConfig", "get_model_info",
        "resume",
    ]  # fmt: skip
    assert all(getattr(mypt, name).__name__ == name for name in mypt.__all__)
