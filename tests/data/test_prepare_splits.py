"""A split that is given is kept: by names, by files for validation, or by a share of all or nothing."""

import shlex
from pathlib import Path

import pytest

from mypt.data.prepare.inputs import make_plan
from mypt.errors import ConflictError, InputError
from mypt.schema.settings.prepare import PrepareConfig
from tests.conftest import Mypt, flat
from tests.data.test_prepare import documents_of, make, metadata_of, split_texts


def lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"The text of {name}.", encoding="utf-8")


def planned(folder: Path, words: list[str], **values: object) -> tuple[dict[str, str | None], list[str]]:
    """The split of each file that a plan has, and what was said."""
    said: list[str] = []
    config = PrepareConfig.model_validate(values)
    plan = make_plan([str(folder / word) for word in words], config, folder / "out", said.append)
    return {Path(s.path).relative_to(folder).as_posix(): s.split for s in plan.sources}, said


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.txt", "train"), ("c4-train.00000-of-01024.jsonl", "train"), ("Training/a.txt", "train"),
        ("train/deep/a.txt", "train"), ("data_train_1.txt", "train"), ("train1.txt", "train"),
        ("val.txt", "val"), ("valid.txt", "val"), ("validation-00000-of-00001.txt", "val"), ("dev/a.txt", "val"),
        ("a_VAL.txt", "val"), ("test.txt", "test"), ("test-00000-of-00001.txt", "test"),
        ("retrain.txt", None), ("trainer/a.txt", None), ("values.txt", None), ("developer.txt", None),
        ("latest.txt", None), ("invalid.txt", None), ("train/val.txt", "both"), ("train-val.txt", "both"),
        ("test/train.txt", "both"),
    ],
)  # fmt: skip
def test_names_say_a_split_by_whole_words(name: str, split: str | None, tmp_path: Path) -> None:
    lay(tmp_path, "in/a/train.txt", "in/b/val.txt", f"in/{name}")
    if split in (None, "both"):
        says = "neither train nor val" if split is None else " and "
        with pytest.raises(InputError, match=f"(?s){name}: its name says .*{says}.*--no-split-by-folder"):
            planned(tmp_path, ["in"])
        return
    splits, said = planned(tmp_path, ["in"])
    assert splits == {"in/a/train.txt": "train", "in/b/val.txt": "val"} | (
        {} if split == "test" else {f"in/{name}": split}
    )
    assert len(said) == 1 and said[0].startswith("The split is the given one: ")
    assert ("left out for testing" in said[0]) == (split == "test")


@pytest.mark.parametrize(
    ("names", "given"),
    [(["train.txt", "val.txt"], True), (["train.txt", "a.txt"], False), (["train.txt"], False), (["a.txt"], False),
     (["train.txt", "test.txt", "a.txt"], False), (["test.txt"], False)],
)  # fmt: skip
def test_names_are_followed_where_both_splits_are_named(names: list[str], given: bool, tmp_path: Path) -> None:
    lay(tmp_path, *(f"in/{name}" for name in names))
    splits, said = planned(tmp_path, ["in"])
    assert set(splits.values()) == ({"train", "val"} if given else {None}) and len(said) == given
    splits, said = planned(tmp_path, ["in"], split_by_folder=False)
    assert set(splits.values()) == {None} and len(splits) == len(names) and not said


@pytest.mark.parametrize(
    "words", [["data/train", "data/val"], ["data/train/a.txt", "data/val/a.txt"], ["data/*"], ["data/**/*.txt"]]
)
def test_the_folder_that_a_word_names_says_a_split_too(words: list[str], tmp_path: Path) -> None:
    lay(tmp_path, "data/train/a.txt", "data/val/a.txt")
    assert planned(tmp_path, words)[0] == {"data/train/a.txt": "train", "data/val/a.txt": "val"}


def test_a_file_for_validation_is_in_no_other_split(tmp_path: Path) -> None:
    lay(tmp_path, "in/a.txt", "in/b.txt", "more/c.txt", "more/d.txt")
    expected = {"in/a.txt": "train", "in/b.txt": "val", "more/c.txt": "val", "more/d.txt": "val"}
    splits, said = planned(tmp_path, ["in"], val_input=(str(tmp_path / "in/b.txt"), str(tmp_path / "more")))
    assert splits == expected and "1 for training, 3 for validation" in said[0]
    for words in (["in/a.txt", "in/b.txt"], ["in/b.txt"]):
        with pytest.raises(InputError, match=r"b\.txt is an input and a --val-input"):
            planned(tmp_path, words, val_input=str(tmp_path / "in/b.txt"))
    with pytest.raises(InputError, match="is an input and a --val-input"):
        planned(tmp_path, ["in"], val_input=str(tmp_path / "in"))
    with pytest.raises(InputError, match=r"nothing\.txt does not exist"):
        planned(tmp_path, ["in"], val_input=str(tmp_path / "nothing.txt"))


def test_a_hugging_face_folder_keeps_its_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    counts = {
        "train-00000-of-00002": 30,
        "train-00001-of-00002": 20,
        "validation-00000-of-00001": 7,
        "test-00000-of-00001": 9,
    }
    (tmp_path / "in" / "data").mkdir(parents=True)
    (tmp_path / "in" / "README.md").write_text("# A dataset", encoding="utf-8")
    for name, count in counts.items():
        texts = [f"{name} {text}" for text in documents_of(count)]
        parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "in" / "data" / f"{name}.parquet")
    metadata = make(tmp_path / "d", tmp_path / "in")
    assert (metadata.train.documents, metadata.val.documents) == (50, 7)
    assert all(text.startswith("train") for text in split_texts(tmp_path / "d", metadata.train))
    assert all(text.startswith("validation") for text in split_texts(tmp_path / "d", metadata.val))
    assert (metadata.split, metadata.val_share, len(metadata.sources)) == ("given", None, 3)
    said = capsys.readouterr().out
    assert "README.md" in said and "test-00000-of-00001.parquet" in said


@pytest.mark.parametrize(("share", "full", "empty"), [("0", "train", "val"), ("1", "val", "train")])
def test_a_share_of_all_or_nothing_makes_one_split(share: str, full: str, empty: str, mypt: Mypt, folder: Path) -> None:
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(documents_of(20)), encoding="utf-8")
    said = flat(mypt("prepare", "a.txt", "--out", "d", "--workers", "1", "--val-share", share).output)
    metadata = metadata_of(folder / "d")
    assert getattr(metadata, full).documents == 20 and not getattr(metadata, empty).shards
    assert (metadata.split, metadata.val_share) == ("hash", float(share))
    assert f"no {'training' if empty == 'train' else 'validation'} split" in said and "Train on it" not in said
    assert mypt("data", "inspect", "d").exit_code == 0


def test_names_of_one_split_alone_are_kept_if_asked(tmp_path: Path) -> None:
    lay(tmp_path, "in/train.txt")
    metadata = make(tmp_path / "d", tmp_path / "in", split_by_folder=True)
    assert metadata.train.documents == 1 and not metadata.val.tokens
    lay(tmp_path, "other/test.txt")
    with pytest.raises(InputError, match=r"test\.txt is for testing"):
        make(tmp_path / "e", tmp_path / "other", split_by_folder=True)


def test_an_unfinished_dataset_of_another_split_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "train.txt", "val.txt")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    words = (tmp_path / "train.txt", tmp_path / "val.txt")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mypt.data.prepare.pipeline.run_jobs", stop)
        make(tmp_path / "d", *words)
    for other in ({"split_by_folder": False}, {"split_by_folder": True}):
        with pytest.raises(ConflictError, match="split_by_folder was None"):
            make(tmp_path / "d", *words, **other)
    with pytest.raises(ConflictError, match=r"train\.txt was in train and is in val now"):
        make(tmp_path / "d", tmp_path / "val.txt", val_input=(str(tmp_path / "train.txt"),))
    make(tmp_path / "d", *words)


def test_the_options_are_those_of_the_settings(mypt: Mypt, folder: Path) -> None:
    lay(folder, "a.txt", "b.txt", "c.txt")
    mypt(*shlex.split("prepare a.txt --val-input b.txt --val-input c.txt --out d --workers 1"))
    metadata = metadata_of(folder / "d")
    assert (metadata.train.documents, metadata.val.documents) == (1, 2)
    failed = mypt(*shlex.split("prepare a.txt --val-input b.txt --split-by-folder --out e"), ok=False)
    assert failed.exit_code == 2 and "give one of them" in flat(failed.stderr)


@pytest.mark.parametrize("name", ["test.txt", "testing/a.txt", "eval.txt", "evaluation-00000-of-00001.txt"])
def test_what_is_for_testing_is_not_trained_on_where_no_name_says_validation(name: str, tmp_path: Path) -> None:
    lay(tmp_path, "in/train-0.txt", "in/train-1.txt", f"in/{name}")
    splits, said = planned(tmp_path, ["in"])
    assert splits == {"in/train-0.txt": None, "in/train-1.txt": None}
    assert len(said) == 1 and Path(name).name in said[0] and "--no-split-by-folder" in said[0]
    splits, said = planned(tmp_path, ["in"], split_by_folder=False)
    assert len(splits) == 3 and not said


@pytest.mark.parametrize("name", ["val_train.txt", "validation_test.txt", "training/val/a.txt"])
def test_a_name_of_two_splits_beside_training_is_refused(name: str, tmp_path: Path) -> None:
    lay(tmp_path, "in/train.txt", f"in/{name}")
    with pytest.raises(InputError, match=f"(?s){name}: its name says .* and .*--no-split-by-folder"):
        planned(tmp_path, ["in"])
    assert len(planned(tmp_path, ["in"], split_by_folder=False)[0]) == 2
