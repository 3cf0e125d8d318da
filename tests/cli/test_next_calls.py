"""What a verb says that may come next: calls that are true for the run at hand, and that the command line takes."""

import json
import random
import shlex
import string
from pathlib import Path

import pytest

from mypt.checkpoint.files import read_state
from mypt.cli import next_calls
from tests.conftest import SHORT, Mypt, stopping_at

WATCH = "Watch it from another terminal: mypt board --open"


def after(output: str) -> list[str]:
    """The calls at the end of what a verb has printed; none where it names none."""
    lines = output.splitlines()
    return [line.strip() for line in lines[lines.index("Next:") + 1 :]] if "Next:" in lines else []


def test_a_run_that_is_complete_leads_to_its_use_to_more_steps_to_another_run_and_to_an_export(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "m", *SHORT]
    monkeypatch.setattr("sys.argv", ["mypt", *words, "--fresh"])
    calls = after(mypt(*words).output)
    another = "mypt " + shlex.join(["train", "m_2", *without_rate(SHORT), "--learning-rate", "0.005"])
    assert calls == ["mypt generate m", "mypt resume m --max-iters 8", another, "mypt export m"]
    for call in calls[:3]:
        mypt(*shlex.split(call)[1:])
    assert Path("checkpoints/m_2").is_dir()


def without_rate(words: list[str]) -> list[str]:
    place = words.index("--learning-rate")
    return words[:place] + words[place + 2 :]


def test_the_second_run_on_a_text_is_compared_with_the_first_and_one_on_another_text_is_not(mypt: Mypt) -> None:
    Path("other.txt").write_text("another text altogether. " * 40, encoding="utf-8")
    mypt("train", "a", *SHORT)
    other = ["train", "b", *SHORT, "--input-file", "other.txt"]
    other[other.index("input.txt")] = "other.txt"
    assert not [call for call in after(mypt(*other).output) if "compare" in call]
    assert "mypt compare a c" in after(mypt("train", "c", *SHORT, "--seed", "4").output)


@pytest.mark.parametrize(("how", "call"), [(["--token-conv", "2"], "mypt export m --with-code"), ([], "mypt export m")])
def test_an_architecture_without_a_home_is_exported_with_code(how: list[str], call: str, mypt: Mypt) -> None:
    assert after(mypt("train", "m", *SHORT, *how).output)[-1] == call


def test_a_model_that_has_learned_to_answer_is_talked_to(mypt: Mypt) -> None:
    talk = [{"role": "user", "content": "and"}, {"role": "assistant", "content": "so"}]
    lines = [json.dumps({"messages": [*talk, {"role": "user", "content": str(n)}, talk[1]]}) for n in range(60)]
    Path("talks.jsonl").write_text("\n".join(lines), encoding="utf-8")
    mypt("prepare", "talks.jsonl", "--chat", "--tokenization", "char", "--out", "talks", "--val-share", "0.2")
    data = [word for word in SHORT if word not in ("--input-file", "input.txt", "--tokenization", "char")]
    assert after(mypt("train", "m", "--dataset-dir", "talks", *data).output)[0] == "mypt chat m"


def test_where_gold_is_better_it_is_used(mypt: Mypt) -> None:
    letters = random.Random(5).choices(string.ascii_lowercase, k=600)  # which can only be learned by heart
    Path("input.txt").write_text("".join(letters), encoding="utf-8")
    by_heart = ["--n-embd", "16", "--max-iters", "100", "--eval-interval", "10", "--dropout", "0"]
    output = mypt("train", "m", *SHORT, *by_heart).output
    assert "Gold is better" in output and after(output)[0] == "mypt generate m_gold"


def test_bundles_elsewhere_are_named_with_their_folder(mypt: Mypt) -> None:
    output = mypt("train", "m", *SHORT, "--out-dir", "else").output
    assert f"{WATCH} --out-dir else" in output
    assert all(call.endswith("--out-dir else") for call in after(output))


def test_a_plan_alone_leads_nowhere(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["mypt", "train", "m", *SHORT, "--dry-run"])
    output = mypt("train", "m", *SHORT, "--dry-run").output
    assert "Watch it" not in output and not after(output)


def test_of_a_run_on_several_processes_only_what_takes_one_is_offered(mypt: Mypt) -> None:
    mypt("train", "m", *SHORT)
    state = read_state(run := Path("checkpoints/m"))
    assert state.environment
    shared = state.environment.model_copy(update={"processes": 2})
    told = next_calls.after_training(run, state.model_copy(update={"environment": shared}))
    assert told == ["Next:", "  mypt generate m", "  mypt export m"]


def test_a_text_from_standard_input_is_not_there_for_another_run(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "m", *["-" if word == "input.txt" else word for word in SHORT]]
    monkeypatch.setattr("sys.argv", ["mypt", *words])
    assert len(after(mypt(*words, stdin=Path("input.txt").read_text(encoding="utf-8")).output)) == 3


def test_without_the_extra_of_the_board_nothing_is_said_of_it(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_calls, "find_spec", lambda _: None)
    assert "Watch it" not in mypt("train", "m", *SHORT).output


def test_a_run_that_was_stopped_says_how_it_goes_on_and_no_more(mypt: Mypt) -> None:
    with stopping_at(3):
        output = mypt("train", "m", *SHORT).output
    assert "Go on with: mypt resume m" in output and not after(output)


def test_a_comparison_leads_to_the_better_run_and_one_that_does_not_compare_leads_nowhere(mypt: Mypt) -> None:
    mypt("train", "good", *SHORT)
    mypt("train", "bad", *SHORT, "--learning-rate", "1e-6")
    Path("other.txt").write_text("another text altogether. " * 40, encoding="utf-8")
    mypt("train", "other", *[word.replace("input.txt", "other.txt") for word in SHORT])
    assert after(mypt("compare", "bad", "good").output) == ["mypt generate good", "mypt export good"]
    assert not after(mypt("compare", "bad", "other").output)
    assert "Next:" not in mypt("compare", "bad", "good", "--json").output
