"""A byte of a dataset that was changed in place is found: by verify always, by a resume where it looks."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mypt.checkpoint.files import read_state
from mypt.data.formats.widths import PROBE_BYTES
from mypt.data.shards import open_shards
from mypt.run.data.unchanged import DataChecks
from tests.conftest import TINY, Mypt, Once, flat, tiny_text

SHORT = [
    *TINY[2:], "--n-layer", "1", "--n-head", "1", "--n-embd", "4", "--max-iters", "4", "--eval-interval", "4"
]  # fmt: skip
A = Path("checkpoints/a")
Call = Callable[..., object]
"""Makes shards and trains."""


def conversations(call: Call) -> list[str]:
    """Shards of `mypt prepare` with masks; what is found newer than the metadata is read whole."""
    talk = [
        {"messages": [{"role": "user", "content": tiny_text()[i : i + 9]}, {"role": "assistant", "content": "sì " * i}]}
        for i in range(60)
    ]
    Path("talks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in talk), encoding="utf-8")
    call("prepare", "talks.jsonl", "--chat", "--tokenization", "char", "--out", "data", "--val-share", "0.3")
    return ["--dataset-dir", "data", "--use-loss-mask"]


def headerless(_: Call) -> list[str]:
    """nanoGPT's files, larger than what a glance sees of them."""
    Path("data").mkdir()
    for name, size in (("train", 5 * PROBE_BYTES // 2), ("val", PROBE_BYTES)):
        (np.arange(size, dtype="<u2") % 40_000).tofile(f"data/{name}.bin")
    return ["--dataset-dir", "data"]


def with_header(_: Call) -> list[str]:
    """llm.c's files."""
    Path("data").mkdir()
    for name in ("train", "val"):
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, 3000
        Path(f"data/{name}.bin").write_bytes(header.tobytes() + np.arange(3000, dtype="<u2").tobytes())
    return ["--dataset-dir", "data"]


def in_eval_shards(call: Call) -> list[str]:
    """Shards that are only measured."""
    headerless(call)
    conversations_free = ["--input-file", "input.txt", "--tokenization", "gpt2"]
    return [*conversations_free, "--eval-set", "more=data"]


KINDS = {f.__name__: f for f in (conversations, headerless, with_header, in_eval_shards)}


def reread(file: Path) -> bool:
    """Whether a glance at the file sees all of it."""
    return file.suffix == ".json" or file.stat().st_size <= PROBE_BYTES


def in_sample(file: Path, at: int) -> bool:
    """Whether a byte is in the first, middle or last block of a file."""
    size = file.stat().st_size
    middle = max(0, size // 2 - PROBE_BYTES // 2)
    return at < PROBE_BYTES or middle <= at < middle + PROBE_BYTES or at >= size - PROBE_BYTES


@pytest.fixture(params=KINDS)
def trained(request: pytest.FixtureRequest, mypt: Mypt, once: Once) -> Iterator[Mypt]:
    words = KINDS[request.param](once)
    once("train", "a", *SHORT, *words)
    assert not DataChecks().of(read_state(A)).faults
    yield mypt


@given(data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("times", ["as they come", "set back"])
def test_any_changed_byte_is_found(times: str, data: st.DataObject, trained: Mypt) -> None:
    eval_only = not read_state(A).data.dataset_dir  # type: ignore[union-attr]
    files = sorted(p for p in Path("data").rglob("*") if p.is_file() and not (eval_only and p.name == "train.bin"))
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    to = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    stat = file.stat()
    file.write_bytes(content[:at] + bytes([to]) + content[at + 1 :])
    if times == "set back":
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    try:
        assert DataChecks().of(read_state(A)).faults, f"byte {at} of {file}"
        result = trained("resume", "a", "--max-iters", "8", "--dry-run", ok=False)
        newer = times == "as they come" and open_shards_has_metadata()
        if file.suffix == ".json":
            assert result.exit_code == 2 or "description of" in flat(result.output)
        elif newer or in_sample(file, at):
            assert result.exit_code == 2, f"byte {at} of {file}"
            assert "--dataset-dir" in result.stderr or "--eval-set" in result.stderr
        else:
            assert result.exit_code == 0
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def open_shards_has_metadata() -> bool:
    return Path("data/dataset_metadata.json").is_file()


@pytest.mark.parametrize("damage", ["cut", "longer", "removed", "another", "empty folder"])
def test_files_that_are_cut_or_gone_are_found(damage: str, trained: Mypt) -> None:
    file = next(p for p in sorted(Path("data").rglob("*.bin")) if "val" in p.as_posix() and "mask" not in p.name)
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-2])
    elif damage == "longer":
        file.write_bytes(content + b"\0\0")
    elif damage == "removed":
        file.unlink()
    elif damage == "another":
        (Path("data") / "val_other.bin").write_bytes(content)
    else:
        shutil.rmtree("data")
        Path("data").mkdir()
    known = damage == "another" and open_shards_has_metadata()  # the metadata name the files that count
    assert bool(DataChecks().of(read_state(A)).faults) != known
    assert trained("resume", "a", "--max-iters", "8", ok=False).exit_code == (0 if known else 2)


def text(path: Path) -> Callable[[Call], list[str]]:
    return lambda _: ["--input-file", str(path), "--tokenization", "char"]


@pytest.mark.parametrize("name", ["a training text", "an eval text", "a compressed text"])
def test_texts_are_read_whole(name: str, mypt: Mypt) -> None:
    import gzip

    more = tiny_text()[::-1]
    Path("more.txt").write_text(more, encoding="utf-8")
    Path("more.txt.gz").write_bytes(gzip.compress(more.encode()))
    words = {
        "a training text": ["--input-file", "more.txt"],
        "an eval text": ["--input-file", "input.txt", "--eval-set", "more=more.txt"],
        "a compressed text": ["--input-file", "more.txt.gz"],
    }[name]
    mypt("train", "a", "--tokenization", "char", *SHORT, *words)
    found = {c["name"]: c for c in json.loads(mypt("verify", "a", "--json").output)}["data"]
    assert found["ok"] and "as the run recorded them" in found["found"]
    path = Path(words[-1].removeprefix("more=") if "=" in words[-1] else words[-1])
    for at in range(0, len(more), 301):
        changed = more[:at] + ("x" if more[at] != "x" else "y") + more[at + 1 :]
        path.write_bytes(gzip.compress(changed.encode()) if path.suffix == ".gz" else changed.encode())
        assert DataChecks().of(read_state(A)).faults == [f"{path.absolute()} was changed since the run recorded it"]
    assert mypt("verify", "a", ok=False).exit_code == 1
    path.unlink()
    result = json.loads(mypt("verify", "a", "--json").output)
    assert next(c["found"] for c in result if c["ok"] is None).startswith(f"{path.absolute()}, which is not here")


def test_a_run_of_an_earlier_version_gets_its_sample_at_the_next_resume(mypt: Mypt) -> None:
    from tests.conftest import reseal

    mypt("train", "a", *SHORT, *headerless(mypt))
    state = json.loads((A / "training_state.json").read_text(encoding="utf-8"))
    hashes = [state["data"].pop(n) for n in ("sample_sha256", "content_sha256", "metadata_sha256")]
    (A / "training_state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    reseal(A, 4)
    assert "no hash of the whole was recorded" in flat(mypt("verify", "a").output)
    mypt("resume", "a", "--max-iters", "8")
    data = read_state(A).data
    assert data is not None and [data.sample_sha256, data.content_sha256, data.metadata_sha256] == hashes


def test_what_several_bundles_have_in_common_is_read_once(mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT, *headerless(mypt))
    once("train", "b", *SHORT, "--dataset-dir", "data", "--eval-set", "same=data")
    read: list[str] = []
    checks = DataChecks(lambda path: read.append(path.name))
    for name in ("a", "a_gold", "b", "b_gold", "a_fp16"):
        assert not checks.of(read_state(Path("checkpoints", name))).faults
    assert sorted(read) == ["train.bin", "val.bin", "val.bin"]  # once as a whole, once as a set that is only measured
    assert open_shards("data").files
