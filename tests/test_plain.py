"""What readers make of a file without pydantic is what its model makes of it."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mypt.schema.config import GPTConfig
from mypt.schema.plain import UnfitError, plain, plain_values
from mypt.schema.state import (
    DataRecord,
    Environment,
    GoldState,
    ParentRecord,
    PhaseRecord,
    Progress,
    SessionRecord,
    SourceRecord,
    TrainingState,
)  # fmt: skip
from mypt.schema.tokenizer import TokenizerFile
from mypt.schema.training import TrainingConfig

DATA = DataRecord(
    sources=(SourceRecord(path="a.txt", bytes=9, sha256="ab"),), fingerprint="cd", characters=9, tokenization="char",
    train_tokens=8, val_tokens=1,
)  # fmt: skip
PLACE = Environment(
    mypt="0.1.0", python="3.12", torch="2.13", numpy="2", tiktoken="0.14", platform="Linux", device="cpu", threads=2
)
FULL = TrainingState(
    step=7, optimizer_file="optimizer.pt", training_config=TrainingConfig(warmup_iters=3, max_minutes=1.5),
    progress=Progress(tokens_processed=5, best_val_loss=2.5, gold=GoldState(step=3, baseline={"code": 1.5})),
    data=DATA, eval_sets={"code": DATA},
    parent=ParentRecord(name="p", path="/p", step=1, run_id=None, weights_sha256=""),
    curriculum=(PhaseRecord(name="one", until_iter=3, description="", data=DATA),), environment=PLACE,
    sessions=(SessionRecord(start_step=0, training_config=TrainingConfig(), environment=PLACE, started_at="now"),),
)  # fmt: skip
RECORDS: dict[str, BaseModel] = {
    "TrainingState": FULL,
    "GPTConfig": GPTConfig(),
    "TokenizerFile": TokenizerFile(token_kind="char", vocab_size=2, chars=("a", "è")),
}
SPANNING = ("is not divisible", "rope needs", "does not match the entries", "needs its")
"""Rules that span several fields, which only the models know."""
VALUES = st.sampled_from([None, True, 0, -1, 3, 2.5, float("nan"), "", "3", "cpu", [], {}, [1], {"x": 1}, "char"])


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value, at every depth."""
    for key, held in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(held, (*path, key))


def changed(content: Any, path: tuple[Any, ...], how: str, value: object) -> Any:
    content = copy.deepcopy(content)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if how == "replace":
        holder[path[-1]] = value
    elif how == "remove":
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder["unheard_of"] = value
    return content


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_reads_the_same_without_its_model(name: str) -> None:
    content = RECORDS[name].model_dump(mode="json")
    assert plain_values(plain(name, content)) == content
    bare = RECORDS[name].model_dump(mode="json", exclude_defaults=True)
    assert list(vars(plain(name, bare))) == list(content) and plain_values(plain(name, bare)) == content


@settings(max_examples=400)
@given(data=st.data(), name=st.sampled_from(sorted(RECORDS)), how=st.sampled_from(["replace", "remove", "add"]))
def test_what_is_read_without_a_model_is_what_the_model_allows(data: st.DataObject, name: str, how: str) -> None:
    content = RECORDS[name].model_dump(mode="json")
    spoilt = changed(content, data.draw(st.sampled_from(list(places(content)))), how, data.draw(VALUES))
    try:
        found = plain_values(plain(name, spoilt))
    except UnfitError:
        return
    try:
        model = type(RECORDS[name]).model_validate(spoilt)
    except ValidationError as error:
        assert any(rule in str(error) for rule in SPANNING), (spoilt, error)
    else:
        assert found == json.loads(model.model_dump_json())


def test_what_the_model_refuses_is_mostly_refused_without_it() -> None:
    """Every bound, choice, pattern and kind of the architecture, one at a time."""
    wrong = {"n_layer": 0, "dropout": 1.0, "bias": "no", "device": "abacus", "mlp_type": "relu", "token_conv": 65,
             "n_embd": 1.5, "rope_theta": float("inf")}  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(UnfitError):
            plain("GPTConfig", GPTConfig().model_dump() | {name: value})
