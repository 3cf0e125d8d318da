"""Config files: those of the field load as they are, what is wrong is said at once, and the shipped ones are right."""

import json
from pathlib import Path

import pytest

from mypt.model.cost import parameter_count
from mypt.schema.resolve import resolve_settings
from tests.conftest import TINY, Mypt, flat
from tests.data.test_data import masked_dataset, nanogpt

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.json"))
INHERITED = {
    "name": "unified", "description": "as written for another tool", "batch_size": 12, "block_size": 1024,
    "vocab_size": 50304, "n_embd": 1280, "n_head": 20, "n_layer": 32, "dropout": 0.1, "bias": False,
    "device": "cpu", "pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm", "rope_theta": 10000.0,
    "rope_scale": 2.0, "tie_weights": True, "use_checkpoint": True, "max_iters": 75000, "eval_interval": 350,
    "eval_iters": 200, "eval_seed": 7, "learning_rate": 0.00015, "warmup_iters": 3750, "grad_clip": 1.0,
    "grad_accum_steps": 8, "weight_decay": 0.1, "save_every": 500, "use_amp": True, "amp_dtype": "bf16",
    "log_file": "logs/custom.jsonl", "dataset_dir": "data/one", "eval_sets": {"general": "data/g", "code": "data/c"},
    "curriculum": {"phases": [
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
    assert settings.description["name"] == "unified"


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
    assert flat(mypt("config", "check", path).output).endswith(f"{path.name} is right.")
    if path.stem == "750M_unified_v1":
        assert round(parameter_count(settings.model) / 1e6) == 699


def test_a_dataset_is_shown_with_decoded_samples_and_checked(mypt: Mypt) -> None:
    masked_dataset(Path("data"))
    out = mypt("data", "inspect", "data", "--check", "--samples", "2").output
    assert "gpt2, 50,261 tokens" in out and "loss masks" in out and "train/00000.bin" in out and "0 faults." in out
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
