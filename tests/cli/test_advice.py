"""What an error or a page tells the user to do works: commands are read out of the sentence and run as they stand."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Mypt, Once, flat, stopping_at
from tests.data.test_data import nanogpt

PLACES = ["checkpoints", "two words"]
RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "8", "--eval-interval", "4"]


def commands(said: str) -> list[list[str]]:
    """The commands of mypt in a text that a terminal may have wrapped."""
    quoted = re.findall(r"`mypt ([^`]+)`", flat(said))
    shown = re.findall(r"(?:: |^ +)mypt (.*)$", said, re.M)
    return [shlex.split(words) for words in (*quoted, *shown)]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> list[str]:
    """The options of a call that puts bundles into the default folder, or into another."""
    return [] if request.param == "checkpoints" else ["--out-dir", request.param]


def folder(place: list[str]) -> Path:
    return Path(place[1] if place else "checkpoints")


def cut(file: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        (bundle / file).write_bytes((bundle / file).read_bytes()[:-1])

    return damage


def lost(file: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / file).unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "weights cut": cut("model.pt"), "weights gone": lost("model.pt"), "optimizer cut": cut("optimizer.pt"),
    "state cut": cut("training_state.json"), "state gone": lost("training_state.json"),
    "config cut": cut("config.json"), "config gone": lost("config.json"), "tokenizer gone": lost("tokenizer.json"),
    "manifest cut": cut("manifest.json"), "manifest gone": lost("manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_bundle_names_the_ways_that_work(how: str, place: list[str], mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN, *place)
    DAMAGE[how](folder(place) / "m")
    advice = []
    for verb in (["resume", "--max-iters", "12"], ["inspect"], ["generate", "--max-new-tokens", "1"]):
        refused = mypt(*verb, "m", *place, ok=False)
        if how == "optimizer cut" and verb[0] == "generate":
            assert refused.exit_code == 0
            continue
        said = flat(refused.stderr)
        assert refused.exit_code == 1 and "or use m_gold or m_fp16 of the same run in its place" in said
        advice += commands(refused.stderr)
    for name in ("m_gold", "m_fp16"):
        for reading in (["inspect"], ["generate", "--max-new-tokens", "1"], ["export-fp16", "--out", f"x_{name}"]):
            mypt(*reading, name, *place)
    assert len(advice) >= 2 and advice == advice[:1] * len(advice)
    assert advice[0][:4] == ["resume", "m", "--from", "gold"]
    mypt(*advice[0], "--max-iters", "12")
    mypt("inspect", "m", *place)


def test_a_run_of_which_only_gold_is_left_goes_on_from_it(place: list[str], mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN, *place)
    shutil.rmtree(folder(place) / "m")
    refused = mypt("resume", "m", *place, ok=False)
    assert refused.exit_code == 2 and "Those present: m_fp16, m_gold; " in flat(refused.stderr)
    (advised,) = commands(refused.stderr)
    mypt(*advised, "--max-iters", "12")
    mypt("verify", "m", *place)


def test_only_whole_bundles_of_the_same_run_are_named(mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN)
    once("train", "other", *RUN)
    here = Path("checkpoints")

    def said() -> str:
        return flat(mypt("generate", "m", ok=False).stderr)

    cut("model.pt")(here / "m")
    cut("optimizer.pt")(here / "m_gold")
    assert "gold" not in said() and "or use m_fp16 of the same run" in said()
    shutil.rmtree(here / "m_gold")
    shutil.copytree(here / "other_gold", here / "m_gold")
    shutil.rmtree(here / "m_fp16")
    shutil.copytree(here / "other_fp16", here / "m_fp16")
    assert said().endswith("Restore the file from a copy.")
    for bundle in ("m_gold", "m_fp16"):
        shutil.rmtree(here / bundle)
    assert said().endswith("Restore the file from a copy.")


def test_a_damaged_gold_or_export_is_replaced_by_the_run_itself(place: list[str], mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN, *place)
    for name in ("m_gold", "m_fp16"):
        cut("model.pt")(folder(place) / name)
    said = mypt("generate", "m_gold", *place, ok=False).stderr
    assert "or use m of the same run in its place." in flat(said) and not commands(said)
    said = mypt("generate", "m_fp16", *place, ok=False).stderr
    assert "remove it and make it again with" in flat(said)
    shutil.rmtree(folder(place) / "m_fp16")
    (advised,) = commands(said)
    mypt(*advised)
    mypt("generate", "m_fp16", *place)


def stopped(mypt: Mypt, *words: str) -> str:
    with stopping_at(5):
        return mypt("train", "m", *RUN, *words).output


def test_what_is_said_at_the_end_of_a_session_goes_on_with_it(place: list[str], mypt: Mypt) -> None:
    watching, again = commands(stopped(mypt, *place))
    assert watching[:2] == ["board", "--open"]
    (told,) = commands(mypt("logs", "summarize", "m", *place).output)
    assert again == told
    mypt(*again)
    done = mypt(*again)
    (further,) = commands(done.output)
    assert "Nothing left to do" in done.output and further[:3] == ["resume", "m", "--max-iters"]
    assert "Training finished!" in mypt(*further).output


@pytest.mark.parametrize("name", ["m", "m_gold", "m_fp16"])
def test_what_inspect_says_comes_next_can_be_called(name: str, place: list[str], mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN, *place)
    advised = commands(mypt("inspect", name, *place).output.partition("Next:")[2])
    assert [words[0] for words in advised] == ["resume", "generate", "verify"][name == "m_fp16" :]
    for words in advised:
        mypt(*words, *(["--max-iters", "12"] if words[0] == "resume" else []))


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "no such model": (["resume", "x"], [*RUN, "--dry-run"]),
    "an export": (["resume", "m_fp16"], ["--max-iters", "12"]),
    "the gold bundle": (["train", "m_gold", *RUN], ["--max-iters", "12"]),
    "another architecture": (["train", "m", "--n-layer", "3"], RUN),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_call_names_one_that_works(case: str, place: list[str], mypt: Mypt) -> None:
    call, further = REFUSED[case]
    if case != "no such model":
        mypt("train", "m", *RUN, *place)
    refused = mypt(*call, *place, ok=False)
    assert refused.exit_code in (1, 2)
    advised = commands(refused.stderr)
    assert advised
    for words in advised:
        mypt(*words, *further)


def test_an_export_without_its_run_starts_a_new_one(mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN)
    shutil.rmtree("checkpoints/m")
    (advised,) = commands(mypt("resume", "m_fp16", ok=False).stderr)
    mypt(*advised, "--input-file", "input.txt", "--max-iters", "2", "--eval-iters", "1")
    assert Path("checkpoints/NEW").is_dir()


@pytest.mark.parametrize("tokens", [15, 60, 100, 159, 160])
def test_what_a_short_text_lacks_is_enough(tokens: int, mypt: Mypt) -> None:
    text = Path("input.txt").read_text(encoding="utf-8")
    Path("short.txt").write_text(text[:tokens], encoding="utf-8")
    call = ["train", "m", "--input-file", "short.txt", *TINY, "--max-iters", "1", "--dry-run"]
    said = flat(mypt(*call, ok=False).stderr)
    more = re.search(r"Give about (\d+) tokens more text", said)
    assert more is not None
    if least := re.search(r"a --block-size of at most (\d+)\.", said):
        mypt(*call, "--block-size", least[1])
        assert mypt(*call, "--block-size", str(int(least[1]) + 1), ok=False).exit_code == 2
    Path("short.txt").write_text(text[: tokens + int(more[1])], encoding="utf-8")
    mypt(*call)


@pytest.mark.parametrize("sizes", [(500, 9), (12, 300), (5, 7), (4000, 16)])
def test_what_short_shards_lack_is_enough(sizes: tuple[int, int], mypt: Mypt) -> None:
    nanogpt(Path("d"), *sizes)
    tiny = [word for word in TINY if word not in ("--tokenization", "char")]
    call = ["train", "m", "--dataset-dir", "d", *tiny, "--max-iters", "1", "--dry-run"]
    said = flat(mypt(*call, ok=False).stderr)
    more, least = re.search(r"at least (\d+) tokens more", said), re.search(r"--block-size of at most (\d+)", said)
    assert more is not None and least is not None and "The dataset" in said
    mypt(*call, "--block-size", least[1])
    assert mypt(*call, "--block-size", str(int(least[1]) + 1), ok=False).exit_code == 2
    nanogpt(Path("d"), *(size + int(more[1]) if size < 17 else size for size in sizes))
    mypt(*call)
