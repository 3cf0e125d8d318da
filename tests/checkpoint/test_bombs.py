"""A bundle from elsewhere that claims to be larger than it is, or is what no bundle can be: refused in a sentence.

Every verb that reads a bundle is called on each of them, in a process that may take only so much more memory and time.
"""

import json
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.layout import LARGEST_BYTES
from mypt.checkpoint.manifest import read_manifest, write_text
from mypt.checkpoint.pt.header import read_headers
from mypt.checkpoint.tensors import load_tensors, save_tensors
from mypt.cli.app import app
from mypt.errors import BundleError
from mypt.schema.files.manifest import FileHash
from mypt.train.observer import Observer
from tests.conftest import flat, reseal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory of a forked process")

ROOM_BYTES = 300 << 20
"""What a process may take beyond what it has, for bundles of 100 KB; most of it is what a first call of torch takes."""
SECONDS = 60
TEXT = "nel mezzo del cammin di nostra vita " * 40
NAME = "checkpoints/m"
VERBS = {
    "inspect": ["inspect", "m"],
    "inspect all": ["inspect"],
    "inspect tensors": ["inspect", "m", "--tensors"],
    "compare": ["compare", "m", "whole"],
    "verify": ["verify", "m"],
    "generate": ["generate", "m", "--max-new-tokens", "5", "--prompt", "nel"],
    "export": ["export-fp16", "m"],
    "reproduce": ["reproduce", "m"],
    "train": ["train", "new", "--init-from-model", "m", "--input-file", "text.txt", "--max-iters", "1"],
    "resume": ["resume", "m", "--max-iters", "3"],
}
LOADING = ("generate", "export", "reproduce", "train", "resume")
Outcome = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole bundle, twice."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    tokenizer = Tokenizer.char(TEXT)
    config = GPTConfig(
        batch_size=2, block_size=8, vocab_size=tokenizer.vocab_size, n_embd=8, n_head=2, n_layer=1, device="cpu",
        pos_encoding="rope",
    )  # fmt: skip
    for name in ("m", "whole"):
        GPT(config).fit(
            GPTDataLoader(config, tokenizer, input_file=str(folder / "text.txt")),
            checkpoint=CheckpointManager(name, folder / "checkpoints"), observer=Observer(), max_iters=2,
            log_file=folder / f"logs/train/{name}_eval.jsonl", eval_interval=1, eval_iters=1, use_amp=False,
        )  # fmt: skip
    return folder


@pytest.fixture
def bundle(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundle to craft, in a working folder of its own."""
    shutil.copytree(project, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return Path(NAME)


def bounded(work: Callable[[], Any]) -> Any:
    """The result of `work` in a forked process that may take `ROOM_BYTES` and `SECONDS`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with open(writing, "wb") as out:  # noqa: PTH123 - a descriptor
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM_BYTES, taken + ROOM_BYTES))
            signal.alarm(SECONDS)
            try:
                out.write(pickle.dumps(work()))
            except BaseException as error:
                out.write(pickle.dumps(f"{type(error).__name__}: {error}"))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:  # noqa: PTH123 - a descriptor
        result = told.read()
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status), f"ended by signal {os.WTERMSIG(status)}"
    return pickle.loads(result)


def call_all(verbs: Iterator[str] | tuple[str, ...] = tuple(VERBS)) -> Outcome:
    """Every verb on the bundle, with its exit code and what it says."""

    def calls() -> Outcome:
        outcome = {}
        for verb in verbs:
            result = CliRunner().invoke(app, VERBS[verb], env={**os.environ, "COLUMNS": "200"})
            outcome[verb] = result.exit_code, flat(result.output + result.stderr)
        return outcome

    outcome = bounded(calls)
    assert isinstance(outcome, dict), outcome
    return outcome


def seal(bundle: Path) -> None:
    """Give the bundle a manifest that fits what was made of it."""
    reseal(bundle, 2)


def claim(bundle: Path, name: str, size: int) -> None:
    """Make a file of the bundle as large as this, without a byte on the disk, and let the manifest say so."""
    with (bundle / name).open("r+b") as file:
        file.truncate(size)
    manifest = read_manifest(bundle)
    files = {**manifest.files, name: FileHash(bytes=size, sha256=manifest.files[name].sha256)}
    write_text(manifest.model_copy(update={"files": files}), bundle)


def edit(name: str, **values: Any) -> Callable[[Path], None]:
    """Write other values into a JSON file of the bundle."""

    def apply(bundle: Path) -> None:
        content = json.loads((bundle / name).read_text(encoding="utf-8"))
        (bundle / name).write_text(json.dumps({**content, **values}), encoding="utf-8")

    return apply


def text(name: str, content: str | Callable[[str], str]) -> Callable[[Path], None]:
    """Write another text as a JSON file of the bundle."""

    def apply(bundle: Path) -> None:
        was = (bundle / name).read_text(encoding="utf-8")
        (bundle / name).write_text(content if isinstance(content, str) else content(was), encoding="utf-8")

    return apply


def weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Save other weights, as torch saves them."""

    def apply(bundle: Path) -> None:
        content = load_tensors(bundle / "model.pt")
        torch.save(change(content) or content, bundle / "model.pt")

    return apply


def archive(path: Path, listed: bytes, data: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    """A .pt file from its parts."""
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in {"data.pkl": listed, "version": b"3\n", **data}.items():
            made.writestr(f"archive/{name}", content)


def repacked(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], name: str = "model.pt", method: int = zipfile.ZIP_STORED
) -> Callable[[Path], None]:
    """The entries of a .pt file, changed and packed again."""

    def apply(bundle: Path) -> None:
        with zipfile.ZipFile(bundle / name) as was:
            entries = {n.partition("/")[2]: was.read(n) for n in was.namelist()}
        changed = change(entries)
        archive(bundle / name, changed.pop("data.pkl"), {n: c for n, c in changed.items() if n != "version"}, method)

    return apply


def listing(content: bytes) -> Callable[[Path], None]:
    """Another list of the contents of model.pt."""
    return repacked(lambda entries: {**entries, "data.pkl": content})


def large_and_compressed(bundle: Path) -> None:
    torch.save({"token_embedding.weight": torch.zeros(1 << 23, 8)}, bundle / "model.pt")
    repacked(dict, method=zipfile.ZIP_DEFLATED)(bundle)
    edit("config.json", vocab_size=1 << 23)(bundle)


def twice_in_the_directory(bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "model.pt", "a") as made, pytest.warns(UserWarning):
        made.writestr(next(n for n in made.namelist() if n.endswith("data/1")), b"")


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of a file."""

    def apply(bundle: Path) -> None:
        (bundle / name).write_bytes(change((bundle / name).read_bytes()))

    return apply


def many_moments(bundle: Path) -> None:
    content = load_tensors(bundle / "optimizer.pt")
    content["optimizer"]["more"] = torch.zeros(40_000)
    torch.save(content, bundle / "optimizer.pt")


def bpe(**values: Any) -> Callable[[Path], None]:
    """A bpe tokenizer."""
    file = Tokenizer.train_bpe("abab", 256).file.model_dump(exclude_none=True)
    return text("tokenizer.json", json.dumps({**file, **values}))


EXPANDED = torch.zeros(1).expand(1 << 30, 8)
NESTED = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"."
DEEP = "[" * 100_000 + "]" * 100_000

WEIGHTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "compressed": (large_and_compressed, "it is compressed"),
    "a stride of 0": (weights(lambda w: w.update({"token_embedding.weight": EXPANDED})), "repeats or leaves out"),
    "a part of its data": (weights(lambda w: w.update({"norm.weight": torch.zeros(80)[8:16]})), "does not span"),
    "data of many names": (
        weights(lambda _: {f"w{i}": t for t in [torch.zeros(9)] for i in range(9999)}),
        "have the same data",
    ),
    "one name more": (weights(lambda w: w.update({"x": torch.zeros(2)})), "x is not part of this model"),
    "a sparse tensor": (weights(lambda w: w.update({"x": torch.zeros(8, 8).to_sparse()})), "a sparse tensor"),
    "a tensor without values": (weights(lambda w: w.update({"x": torch.zeros(8, device="meta")})), "without values"),
    "complex numbers": (weights(lambda w: w.update({"x": torch.zeros(8, dtype=torch.cfloat)})), "complex numbers"),
    "float8": (weights(lambda w: w.update({"x": torch.zeros(8).to(torch.float8_e4m3fn)})), "such as float8"),
    "a quantized tensor": (
        listing(b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R."),
        "a quantized tensor",
    ),
    "fp64": (weights(lambda w: {n: t.double() for n, t in w.items()}), "is fp64 instead of fp32"),
    "no tensors": (weights(lambda _: {"a": 1}), "does not fit config.json"),
    "a memo of 4 billion": (listing(b"\x80\x02}r\xf0\xff\xff\xff."), "its data are not those"),
    "a doubled tuple": (listing(NESTED), "one container in several places"),
    "a deep list": (listing(b"\x80\x02" + b"]" * 9000 + b"a" * 8999 + b"."), "nested too deeply"),
    "a long list": (listing(b"}" * (1 << 24) + b"."), "more than its tensors need"),
    "a text of 4 GB": (listing(b"\x80\x02X\xff\xff\xff\xffabc."), "cannot be read at byte"),
    "a byte array of 1 TB": (listing(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."), "the instruction 0x96"),
    "a number of 2 GB": (listing(b"\x80\x02\x8b" + struct.pack("<I", 1 << 31) + b"."), "the instruction 0x8b"),
    "keys that collide": (
        listing(b"\x80\x02}(" + b"".join(pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"N" for i in range(1, 4)) + b"u."),
        "neither a short text nor a small number",
    ),
    "code": (listing(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."), "names os.system"),
    "an empty list": (listing(b""), "cannot be read at byte"),
    "an entry twice": (twice_in_the_directory, "two of its entries have one name"),
    "an entry of another kind": (repacked(lambda e: {**e, "code/x.py": b"1"}), "entries that no file of tensors has"),
    "an entry too many": (repacked(lambda e: {**e, "data/99": b"1"}), "not those of its tensors"),
    "a long version": (repacked(lambda e: {**e, "byteorder": b"1" * 99}), "entries that no file of tensors has"),
    "bytes before": (bytes_of("model.pt", lambda b: b"MZ" * 99 + b), "directory"),
    "bytes behind": (bytes_of("model.pt", lambda b: b + b"MZ" * 99), "does not end as an archive"),
    "bytes between": (bytes_of("model.pt", lambda b: b[:-200] + bytes(99) + b[-200:]), "is damaged"),
    "nothing": (bytes_of("model.pt", lambda _: b""), "does not end as an archive"),
    "a billion layers": (edit("config.json", n_layer=10**9), "more are missing"),
    "a million channels": (edit("config.json", n_embd=1 << 20), "has shape"),
    "a trillion tokens": (edit("config.json", vocab_size=10**12), "has shape"),
    "a trillion positions": (edit("config.json", block_size=10**12, pos_encoding="learned"), "is missing"),
}
"""Crafted weights, or a config that they are not of, and what is said of each."""

FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a number of 5,000 digits": (text("config.json", lambda t: t.replace('"n_layer": 1', '"n_layer": 1' + "0" * 4999)),
                                 "a number of 5,000 digits"),
    "a number of 30 digits": (edit("config.json", n_layer=10**29), "a number of 30 digits"),
    "a deep config": (text("config.json", DEEP), "nested too deeply"),
    "a deep state": (text("training_state.json", '{"step": ' + DEEP + "}"), "nested too deeply"),
    "a deep tokenizer": (text("tokenizer.json", '{"chars": ' + "[" * 500 + "]" * 500 + "}"), "nested too deeply"),
    "a large config": (text("config.json", lambda t: t + " " * (1 << 20)), "more than the 1,048,576"),
    "a large state": (text("training_state.json", lambda t: t + " " * (1 << 24)), "more than the 16,777,216"),
    "a pattern that matches nothing": (bpe(pattern="|"), "not one that mypt writes"),
    "a pattern that never ends": (bpe(pattern="(x+x+)+y"), "not one that mypt writes"),
    "bytes without a token": (bpe(tokens=["61", "62"], vocab_size=2), "the tokens of some bytes are missing"),
    "a token twice": (bpe(tokens=["61"] * 256), "there twice"),
    "a token that is no bytes": (bpe(tokens=["zz"], vocab_size=1), "in hexadecimal"),
    "characters that are two": (edit("tokenizer.json", chars=["ab"], vocab_size=1), "not one character"),
    "half a character": (edit("tokenizer.json", chars=["\ud800"], vocab_size=1), "no text"),
    "numbers for characters": (edit("tokenizer.json", chars=[1] * 300_000, vocab_size=300_000), "an entry is no text"),
    "more characters than rows": (
        edit("tokenizer.json", chars=[chr(i) for i in range(32, 132)], vocab_size=100), "100 tokens",
    ),
}  # fmt: skip
"""Crafted JSON files, and what is said of each."""


@pytest.mark.parametrize("case", [*WEIGHTS, *FILES])
def test_what_no_bundle_is_is_refused_by_every_verb_in_little_memory_and_time(case: str, bundle: Path) -> None:
    craft, said = {**WEIGHTS, **FILES}[case]
    craft(bundle)
    seal(bundle)
    outcome = call_all()
    for verb, (code, told) in outcome.items():
        assert code in (0, 1, 2) and "unexpectedly" not in told and "Traceback" not in told, (verb, code, told)
        assert len(told) < 20_000, verb
    codes = {verb: outcome[verb] for verb in ("verify", *LOADING)}
    if case != "fp64":
        assert all(code != 0 for code, _ in codes.values()), codes
    assert said in outcome["verify"][1], outcome["verify"]


@pytest.mark.parametrize("name", [*LARGEST_BYTES, "model.pt", "optimizer.pt"])
def test_a_file_of_a_terabyte_is_not_read(name: str, bundle: Path) -> None:
    if name == "manifest.json":
        with (bundle / name).open("r+b") as file:
            file.truncate(1 << 40)
    else:
        claim(bundle, name, 1 << 40)
    for verb, (code, told) in call_all().items():
        assert code in (0, 1, 2) and "unexpectedly" not in told, (verb, told)
        assert (
            code != 0
            or verb in ("inspect", "inspect tensors", "inspect all", "compare", "export", "train")
            or (name == "optimizer.pt" and verb in ("generate", "reproduce"))
        ), (verb, told)


def test_an_optimizer_of_more_than_the_weights_need_is_refused(bundle: Path) -> None:
    many_moments(bundle)
    seal(bundle)
    outcome = call_all(("verify", "resume"))
    assert all(code == 1 and "does not fit config.json: it has" in told for code, told in outcome.values()), outcome


def test_weights_that_are_no_numbers_generate_nothing(bundle: Path) -> None:
    weights(lambda w: w.update({"norm.weight": torch.full((8,), float("nan"))}))(bundle)
    seal(bundle)
    code, told = call_all(("generate",))["generate"]
    assert code == 1 and "logits are not finite" in told, told


def test_a_context_that_no_weight_bounds_takes_what_is_used_of_it(bundle: Path) -> None:
    edit("config.json", block_size=10**12)(bundle)
    seal(bundle)
    outcome = call_all(("inspect", "verify", "generate"))
    assert all(code == 0 for code, _ in outcome.values()), outcome


@pytest.mark.usefixtures("bundle")
def test_a_whole_bundle_passes_within_the_same_bounds() -> None:
    outcome = call_all()
    assert all(code == 0 for code, _ in outcome.values()), outcome


@pytest.mark.parametrize("file", ["model.pt", "optimizer.pt"])
def test_a_head_that_was_changed_anywhere_loads_what_it_says_or_nothing(
    file: str, project: Path, tmp_path: Path
) -> None:
    honest = (project / NAME / file).read_bytes()
    was = load_tensors(project / NAME / file)
    path = tmp_path / file
    listed = honest.index(b"\x80\x02}")
    end = len(honest) - honest[::-1].index(b"PK\1\2"[::-1]) - 4

    @settings(max_examples=400, database=None)
    @given(st.data())
    def changed(data: st.DataObject) -> None:
        within = data.draw(st.sampled_from([(0, 64), (listed, listed + 3000), (end, len(honest)), (0, len(honest))]))
        at = data.draw(st.integers(within[0], min(within[1], len(honest) - 1)))
        new = data.draw(
            st.one_of(st.binary(min_size=1, max_size=9), st.sampled_from([b"\xff" * 4, b"\0" * 8, b"h\x01"]))
        )
        path.write_bytes(honest[:at] + new + honest[at + data.draw(st.sampled_from([len(new), len(new), 0])) :])
        path.with_name("manifest.json").unlink(missing_ok=True)
        reseal(tmp_path)
        try:
            headers, content = read_headers(path), load_tensors(path)
        except BundleError as error:
            assert str(path) in error.what and len(error.what) < 1000
            return
        found = dict(tensors(content))
        assert {n: (h.shape, h.numel) for n, h in headers.items()} == {
            n: (tuple(t.shape), t.numel()) for n, t in found.items()
        }
        assert sum(t.numel() * t.element_size() for t in found.values()) <= 3 * len(honest)

    assert bounded(changed) is None
    assert dict(tensors(was)).keys() == read_headers(project / NAME / file).keys()


def tensors(node: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(node, torch.Tensor):
        yield prefix, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, value in pairs:
        yield from tensors(value, f"{prefix}.{name}" if prefix else str(name))


def test_views_are_written_with_what_they_show(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    content = {
        "row": base[1], "column": base[:, 1], "turned": (base + 1).T, "expanded": torch.ones(1).expand(5), "same": base,
        "also": base, "nested": {"part": base[0, :2], "list": [base[2]]}, "scalar": torch.tensor(3.0),
    }  # fmt: skip
    save_tensors(content, tmp_path / "a.pt")
    reseal(tmp_path)
    loaded = dict(tensors(load_tensors(tmp_path / "a.pt")))
    assert loaded.keys() == (before := dict(tensors(content))).keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in before.items())
    assert loaded["same"].data_ptr() == loaded["also"].data_ptr()


@pytest.mark.parametrize("name", ["model.pt", "config.json", "tokenizer.json", "training_state.json", "manifest.json"])
@pytest.mark.usefixtures("bundle")
def test_a_file_that_may_not_be_read_is_not_called_damaged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: Any, *args: Any, **kwargs: Any) -> int:
        if Path(path).parts[-2:] == ("m", name):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refused)
    for verb in ("inspect", "verify", "generate"):
        result = CliRunner().invoke(app, VERBS[verb], env={**os.environ, "COLUMNS": "200"})
        told = flat(result.output + result.stderr)
        assert result.exit_code == 1 and f"{name} cannot be read: Permission denied" in told, told
        assert "damaged" not in told and "unexpectedly" not in told


def test_a_bundle_that_may_not_be_looked_into_hides_no_other(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundle, bundle.with_name("shut"))
    real = Path.stat

    def refused(path: Path, **how: Any) -> os.stat_result:
        if path.parent.name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", refused)
    for words in (["inspect"], ["inspect", "--json"], ["verify"]):
        result = CliRunner().invoke(app, words, env={**os.environ, "COLUMNS": "200"})
        told = flat(result.output + result.stderr)
        assert result.exit_code == (words == ["verify"]) and "shut" in told and bundle.name in told, told
        assert "unexpectedly" not in told


def test_a_config_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    result = CliRunner().invoke(app, ["config", "check", str(path)])
    assert result.exit_code == 2 and "more than the 16,777,216" in flat(result.stderr)
