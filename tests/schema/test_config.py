"""Config files: those of the field load as they are, what is wrong is said at once, and the shipped ones are right."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt import units
from mypt.checkpoint.files import read_state
from mypt.errors import ConfigError
from mypt.model.cost import parameter_count
from mypt.schema.base import from_json_text
from mypt.schema.resolve import resolve_settings
from tests.conftest import TINY, Mypt, flat
from tests.data.test_data import curriculum, masked_dataset, nanogpt

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.json"))
INHERITED = {
    "name": "unified", "description": "as written for another tool", "batch_size": 12, "block_size": 1024,
    "vocab_size": 50304, "n_embd": 1280, "n_head": 20, "n_layer": 32, "dropout": 0.1, "bias": False,
    "device": "cpu", "pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm", "rope_theta": 10000.0,
    "rope_scale": 2.0, "tie_weights": True, "use_checkpoint": True, "max_iters": 75000, "eval_interval": 350,
    "eval_iters": 200, "eval_seed": 7, "learning_rate": 0.00015, "warmup_iters": 3750, "grad_clip": 1.0,
    "grad_accum_steps": 8, "weight_decay": 0.1, "save_every": 500, "use_amp": True, "amp_dtype": "bf16",
    "log_file": "logs/custom.jsonl", "dataset_dir": "data/one", "eval_sets": {"general": "data/g", "code": "data/c"},
    "curriculum": {"description": "two stages", "phases": [
        {"name": "circuit_formation", "dataset_dir": "data/one", "until_iter": 9125, "description": "first"},
        {"name": "balanced", "dataset_dir": "data/two", "until_iter": 75000, "description": "then"},
    ]},
}  # fmt: skip


def write(content: object) -> Path:
    path = Path("c.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.usefixtures("folder")
def test_a_config_of_the_predecessor_loads_as_it_is() -> None:
    settings = resolve_settings({}, write(INHERITED))
    values = settings.values()
    renamed = {"save_every": "save_interval"}
    for key, value in INHERITED.items():
        if key not in ("name", "description", "curriculum", "log_file"):
            assert values[renamed.get(key, key)] == value
    assert settings.data.curriculum is not None
    assert [p.name for p in settings.data.curriculum.phases] == ["circuit_formation", "balanced"]
    assert settings.data.curriculum.description == "two stages"
    assert settings.description["name"] == "unified"


@pytest.mark.usefixtures("folder")
def test_comments_and_absent_eval_sets_of_inherited_files_are_taken_as_such() -> None:
    comments = {"comment": "x", "comment_training": "lr 3e-4", "_comment": ["a"], "_comment_2": {"b": 1}}
    settings = resolve_settings({}, write({"n_layer": 2, "eval_sets": None, **comments}))
    assert settings.given == {"n_layer": "c.json", "eval_sets": "c.json"} and settings.data.eval_sets == {}
    with pytest.raises(ConfigError, match="commentary is not a setting"):
        resolve_settings({}, write({"commentary": "x"}))


FIRST = {"max_iters": 1000, "eval_interval": 50, "eval_iters": 200, "learning_rate": 0.0003}
SHAPE = {"batch_size": 12, "block_size": 1024, "vocab_size": 50304, "n_embd": 1280, "n_head": 20, "n_layer": 32,
         "dropout": 0.1, "bias": False, "device": "cuda"}  # fmt: skip
STYLE = {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"}
LOGGED = {
    "max_iters": 75000, "start_step": 0, "learning_rate": 0.00015, "warmup_iters": 3750, "grad_clip": 1.0,
    "grad_accum_steps": 8, "batch_size": 12, "block_size": 1024, "tokens_per_step": 98304, "eval_interval": 350,
    "eval_iters": 200, "use_amp": True, "amp_dtype": "bf16", "config_file": "configs/base/750M_unified_v1.json",
    "dataset_dir": "data/unified_phase1_circuit",
}  # fmt: skip
RECORDED: list[tuple[dict[str, Any], set[str]]] = [
    (SHAPE, set()),
    ({**SHAPE, **STYLE, "rope_theta": 10000.0}, set()),
    ({"n_layer": 6, "n_embd": 384, "max_iters": 1000, "learning_rate": 0.0003}, set()),
    (FIRST | {"grad_accum_steps": 8}, set()),
    (FIRST | {"start_step": 0}, {"start_step"}),
    (
        {"step": 1000, "optimizer_file": "optimizer.pt", "training_config": FIRST},
        {"step", "optimizer_file", "training_config"},
    ),
    (LOGGED, {"start_step", "tokens_per_step", "config_file"}),
    (STYLE | {"total_params": 699000000, "n_layer": 32, "n_head": 20, "n_embd": 1280}, {"total_params"}),
]
"""What the contract's files and events hold of settings, and the keys of them that are none."""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("content", "foreign"), RECORDED)
def test_recorded_settings_make_a_config_file_and_what_is_none_is_named(
    content: dict[str, Any], foreign: set[str]
) -> None:
    if foreign:
        with pytest.raises(ConfigError) as refused:
            resolve_settings({}, write(content))
        assert {line.split(" is not a setting")[0] for line in refused.value.details} == {
            f"c.json: {k}" for k in foreign
        }
    values = resolve_settings({}, write(content), ignore_unknown=True).values()
    assert {key: values[key] for key in content if key not in foreign} == {
        key: value for key, value in content.items() if key not in foreign
    }


def test_the_description_of_a_curriculum_is_recorded_and_kept(mypt: Mypt) -> None:
    nanogpt(Path("first"))
    nanogpt(Path("second"))
    phases = [{"name": "a", "dataset_dir": "first", "until_iter": 6}, {"name": "b", "dataset_dir": "second"}]
    mypt("train", "m", "--config-file", curriculum(Path(), curriculum={"description": "two stages", "phases": phases}))
    mypt("resume", "m", "--max-iters", "13")
    assert read_state(Path("checkpoints/m")).curriculum_description == "two stages"


KEYS = st.sampled_from(["a", "b", "n_layer", "phases", "x y"])
PAIRS = st.recursive(
    st.one_of(st.integers(), st.none(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(KEYS, inner), max_size=4).map(lambda pairs: ("object", pairs))
    ),
    max_leaves=25,
)


def as_json(value: Any) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{json.dumps(key)}: {as_json(inner)}" for key, inner in value[1]) + "}"
    return "[" + ", ".join(map(as_json, value)) + "]" if isinstance(value, list) else json.dumps(value)


def repeated(value: Any, path: str = "") -> set[str]:
    if isinstance(value, list):
        return {found for i, inner in enumerate(value) for found in repeated(inner, f"{path}[{i}]")}
    if not isinstance(value, tuple):
        return set()
    keys = [key for key, _ in value[1]]
    own = {f"{path}.{key}".lstrip(".") for key in keys if keys.count(key) > 1}
    return own.union(*(repeated(inner, f"{path}.{key}".lstrip(".")) for key, inner in value[1]))


@given(PAIRS)
def test_keys_that_stand_more_than_once_are_found_at_any_depth(value: Any) -> None:
    content, found = from_json_text(as_json(value))
    assert content == json.loads(as_json(value))
    assert set(found) == repeated(value) and len(found) == len(set(found))


def test_repeated_keys_and_settings_in_two_spellings_are_refused_together(mypt: Mypt) -> None:
    text = """{"n_layer": 1, "n_layer": 2, "n_layer": 3, "lr": 1e-3, "learning_rate": 1e-3, "flash": 1, "save_every": 5,
    "save_interval": 5, "eval_sets": {"a": "x", "a": "x"}, "curriculum": {"description": "d", "description": "d",
    "phases": [{"name": "p", "name": "q", "dataset_dir": "d"}, {"name": "r", "dataset_dir": "e", "until_iter": 5,
    "until_iter": 6}]}}"""
    Path("c.json").write_text(text, encoding="utf-8")
    said = flat(mypt("config", "check", "c.json", ok=False).stderr)
    twice = ["n_layer", "eval_sets.a", "curriculum.description", "curriculum.phases[0].name",
             "curriculum.phases[1].until_iter"]  # fmt: skip
    for key in twice:
        assert f"c.json: {key} is given more than once" in said
    assert said.count("more than once") == len(twice) and "c.json: flash is not a setting." in said
    for pair in ("lr and learning_rate", "save_every and save_interval"):
        assert f"{pair} are the same setting; give one of them." in said
    for call in (("train", "m", "--input-file", "input.txt"), ("config", "check")):
        words = ("--config-file", "c.json") if call[0] == "train" else ("c.json",)
        result = mypt(*call, *words, "--ignore-unknown", ok=False)
        assert result.exit_code == 2 and result.stderr.count("more than once") == len(twice)
    assert not Path("checkpoints").exists()


def test_an_eval_set_that_is_named_twice_is_refused(mypt: Mypt) -> None:
    sets = [word for pair in ("a=input.txt", "b=input.txt", "a=other.txt", "c") for word in ("--eval-set", pair)]
    said = flat(mypt("train", "m", "--input-file", "input.txt", *TINY, *sets, ok=False).stderr)
    assert "c has no name; write it as NAME=PATH; the set a is given more than once" in said


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "{", "", "[1]", '{"n_layer": 2} x', "\ufeff{"])
def test_what_is_no_object_of_settings_is_refused_in_a_sentence(text: str) -> None:
    Path("c.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config file c\.json"):
        resolve_settings({}, Path("c.json"))


@pytest.mark.usefixtures("folder")
def test_a_config_file_may_begin_with_a_byte_order_mark() -> None:
    Path("c.json").write_text('{"n_layer": 2}', encoding="utf-8-sig")
    assert resolve_settings({}, Path("c.json")).model.n_layer == 2


def test_what_mypt_does_not_have_is_refused_by_name_or_ignored_by_request(mypt: Mypt) -> None:
    config = write({"n_layr": 2, "flash": True, "n_embd": 33, "lr": 1e-3, "learning_rate": 2e-3, "n_head": 2})
    said = flat(mypt("config", "check", config, ok=False).stderr)
    for line in (
        "c.json: n_layr is not a setting; did you mean n_layer?",
        "c.json: flash is not a setting.",
        "c.json: lr and learning_rate are the same setting; give one of them.",
        "n_embd 33 is not divisible by n_head 2.",
    ):
        assert line in said
    config = write({"n_layer": 2, "flash": True, "lr": 1e-3})
    assert mypt("config", "check", config, ok=False).exit_code == 2
    out = mypt("config", "check", config, "--ignore-unknown").output
    assert out.splitlines()[0] == "Ignored in c.json: flash." and "c.json is right." in out
    values = json.loads(mypt("config", "check", config, "--ignore-unknown", "--json").output)
    assert (values["n_layer"], values["learning_rate"]) == (2, 1e-3)
    config = write({"flash": True, "input_file": "input.txt"})
    out = mypt("train", "x", "--config-file", config, "--ignore-unknown", *TINY, "--max-iters", "1").output
    assert out.splitlines()[0] == "Ignored in c.json: flash."


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_shipped_configs_are_right_and_say_how_long_they_take(path: Path, mypt: Mypt) -> None:
    settings = resolve_settings({}, path)
    assert any(unit in settings.description["description"] for unit in ("seconds", "minutes", "hours", "days"))
    missing = settings.data.missing_paths() + [p for p in [settings.training.init_from_model] if p]
    end = f"{path.name} are right, but " if missing else f"{path.name} is right."
    assert end in flat(mypt("config", "check", path).output)[-150:]
    if path.stem == "750M_unified_v1":
        assert round(parameter_count(settings.model) / 1e6) == 699


def test_a_dataset_is_shown_with_decoded_samples_and_checked(mypt: Mypt) -> None:
    masked_dataset(Path("data"))
    out = mypt("data", "inspect", "data", "--check", "--samples", "2").output
    assert "gpt2, 50,264 tokens" in out and "loss masks" in out and "train/00000.bin" in out and "0 faults." in out
    found = json.loads(mypt("data", "inspect", "data", "--json").output)
    assert found["splits"]["train"] == {"tokens": 600, "documents": 1, "shards": 1, "bytes": 1200}
    shard = Path("data/train/00000.bin")
    shard.write_bytes(shard.read_bytes()[:-2] + b"\xff\xff")
    result = mypt("data", "inspect", "data", "--check", ok=False)
    assert result.exit_code == 1
    said = flat(result.output)
    assert "its SHA-256 does not match the metadata." in said and "Token 65535 at offset 599 of" in said
    nanogpt(Path("plain"))
    assert "plain" in mypt("data", "inspect", "plain").output
    assert mypt("data", "inspect", "nothing", ok=False).exit_code == 2


@pytest.mark.parametrize("named", ["a text", "shards", "a parent"])
def test_a_check_counts_as_the_run_does(named: str, mypt: Mypt) -> None:
    small = dict(n_layer=1, n_head=1, n_embd=16, block_size=16, batch_size=2, max_iters=2, eval_iters=1)  # noqa: C408
    given: dict[str, object] = {"input_file": ["input.txt"], "tokenization": "char", **small}
    Path("c.json").write_text(json.dumps(given), encoding="utf-8")
    if named == "shards":
        for number in range(8):
            Path(f"{number}.txt").write_text(f"{number} and some more text", encoding="utf-8")
        mypt("prepare", *(f"{n}.txt" for n in range(8)), "--out", "d", "--tokenization", "char", "--val-share", "0.5")
        given = {"dataset_dir": "d", **small}
    elif named == "a parent":
        mypt("train", "old", "--config-file", "c.json")
        given = {"input_file": ["input.txt"], "init_from_model": "old", "max_iters": 2, "eval_iters": 1}
    Path("c.json").write_text(json.dumps(given), encoding="utf-8")
    shown = mypt("config", "check", "c.json").output
    mypt("train", "m", "--config-file", "c.json")
    trained = json.loads(mypt("inspect", "m", "--json").output)["parameters"]["total"]
    assert units.parameters(trained) in shown.partition("What it comes to")[2].split()
    first = shown.partition("not given")[0]
    assert all(name in first for name in given) and "weight_decay" not in first


def test_a_check_names_a_parent_that_is_missing(mypt: Mypt) -> None:
    Path("c.json").write_text(json.dumps({"input_file": ["no.txt"], "init_from_model": "gone"}), encoding="utf-8")
    shown = flat(mypt("config", "check", "c.json").output)
    assert "There is no model 'gone'" in shown and "no.txt is not here" in shown
    assert shown.endswith("c.json are right, but 2 things that it names are missing: a run would not start here.")
    assert "is right" not in shown
    Path("no.txt").write_text("text", encoding="utf-8")
    shown = flat(mypt("config", "check", "c.json").output)
    assert shown.endswith("c.json are right, but what it names is missing: a run would not start here.")
