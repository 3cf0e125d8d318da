"""What `mypt prepare` takes in of the files that it is given, and what it says of the others."""

import gzip
import os
from pathlib import Path

import pytest

from mypt.data.prepare.inputs import make_plan
from mypt.errors import InputError
from mypt.schema.settings.prepare import PrepareConfig
from tests.conftest import Mypt, flat


def lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = b"" if "empty" in name else f"The text of {name}.".encode()
        (folder / name).write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)


def taken(folder: Path, *words: str) -> tuple[list[str], list[str]]:
    """Names of the files that a plan has, and what was said."""
    said: list[str] = []
    plan = make_plan([str(folder / word) for word in words], PrepareConfig(), folder / "out", said.append)
    return [Path(source.path).relative_to(folder).as_posix() for source in plan.sources], said


LEFT_OUT = {
    ".git/config.txt": "1 hidden (.git)",
    ".ipynb_checkpoints/a.txt": "1 hidden (.ipynb_checkpoints)",
    "deep/._x.txt": "1 hidden (._x.txt)",
    "a.txt~": "1 backups (a.txt~)",
    "#a.txt#": "1 backups (#a.txt#)",
    "a.txt.BAK": "1 backups (a.txt.BAK)",
    "a.txt.orig": "1 backups (a.txt.orig)",
    "README.md": "README.md",
    "deep/readme.fr.TXT": "readme.fr.TXT",
    "LICENSE.txt": "LICENSE.txt",
    "Changelog.md": "Changelog.md",
    "empty.txt": "1 empty (empty.txt)",
    "a.png": "1 of other kinds (.png)",
    "Makefile": "1 of other kinds (no suffix)",
    "out/train.txt": "",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_no_text_is_left_out_of_a_folder_and_told(name: str, tmp_path: Path) -> None:
    lay(tmp_path, "in/a.txt", f"in/{name}")
    said: list[str] = []
    plan = make_plan([str(tmp_path / "in")], PrepareConfig(), tmp_path / "in" / "out", said.append)
    assert [source.path for source in plan.sources] == [str(tmp_path / "in" / "a.txt")]
    assert said == ([f"Left out of {tmp_path / 'in'}: {LEFT_OUT[name]}."] if LEFT_OUT[name] else [])


@pytest.mark.parametrize("name", [name for name in LEFT_OUT if "empty" not in name])
def test_what_is_named_is_taken(name: str, tmp_path: Path) -> None:
    lay(tmp_path, f"in/{name}")
    assert taken(tmp_path, f"in/{name}") == ([f"in/{name}"], [])


def test_all_reasons_stand_in_one_line_with_counts_and_a_few_names(tmp_path: Path) -> None:
    names = [f"{i}.{suffix}" for i in range(5) for suffix in ("png", "py", "c", "h")]
    lay(
        tmp_path,
        "in/x.txt",
        "in/README.md",
        "in/empty.txt",
        *(f"in/.{i}.txt" for i in range(4)),
        *(f"in/{n}" for n in names),
    )
    _, (said,) = taken(tmp_path, "in")
    assert said == (
        f"Left out of {tmp_path / 'in'}: 4 hidden (.0.txt, .1.txt, .2.txt, …), 20 of other kinds (.c, .h, .png, …), "
        "README.md, 1 empty (empty.txt)."
    )


@pytest.mark.parametrize("suffix", [".txt", ".TXT", ".Md", ".JSONL", ".txt.GZ", ".Jsonl.gz", ".PARQUET"])
def test_suffixes_are_known_in_any_case(suffix: str, tmp_path: Path) -> None:
    lay(tmp_path, f"in/a{suffix}")
    assert taken(tmp_path, "in") == ([f"in/a{suffix}"], [])
    (source,) = make_plan([str(tmp_path / "in")], PrepareConfig()).sources
    assert source.packing == ("gz" if suffix[-3:].lower() == ".gz" else None)
    assert source.form == {"t": "text", "m": "text", "j": "jsonl", "p": "parquet"}[suffix[1].lower()]


def test_a_folder_of_nothing_but_readme_files_is_taken(tmp_path: Path) -> None:
    lay(tmp_path, "in/a/README.md", "in/b/README.md")
    assert taken(tmp_path, "in") == (["in/a/README.md", "in/b/README.md"], [])


@pytest.mark.skipif(os.name == "nt", reason="makes links")
def test_links_are_followed_once(tmp_path: Path) -> None:
    lay(tmp_path, "in/a.txt", "in/deep/b.txt", "else/c.txt", "else/more/d.txt", "e.txt")
    for link, target in {
        "in/else": "else", "in/again": "else", "in/deep/up": "in", "in/top": ".", "in/a_link.txt": "in/a.txt",
        "in/e.txt": "e.txt", "in/f.txt": "e.txt", "in/deeper": "in/deep", "in/gone.txt": "nowhere", "else/loop": "else",
    }.items():  # fmt: skip
        (tmp_path / link).symlink_to(tmp_path / target)
    files, said = taken(tmp_path, "in")
    assert files == ["in/a.txt", "in/again/c.txt", "in/again/more/d.txt", "in/deep/b.txt", "in/e.txt"]
    assert said == [f"Left out of {tmp_path / 'in'}: 1 links that lead nowhere (gone.txt)."]
    files, _ = taken(tmp_path, "in", "else/c.txt", "e.txt", "in/a.txt")
    assert files == ["e.txt", "else/c.txt", "in/a.txt", "in/again/more/d.txt", "in/deep/b.txt"]


def test_a_pattern_takes_what_it_fits_but_empty_files(tmp_path: Path) -> None:
    lay(tmp_path, "in/a.log", "in/README.md", "in/empty.log", "in/deep/b.txt", "in/deep/x.png")
    files, said = taken(tmp_path, "in/*")
    assert files == ["in/README.md", "in/a.log", "in/deep/b.txt"]
    assert said == [f"Left out of {tmp_path / 'in/*'}: 1 of other kinds (.png), 1 empty (empty.log)."]


def test_what_leaves_nothing_is_refused_with_its_reasons(tmp_path: Path, mypt: Mypt) -> None:
    lay(tmp_path, "in/empty.txt", "in/.a.txt", "in/x.png", "empty.txt")
    with pytest.raises(InputError, match=r"without files of a known type .*; left out: 1 hidden \(.a.txt\), 1 of"):
        taken(tmp_path, "in")
    with pytest.raises(InputError, match=r"empty\.txt is empty"):
        taken(tmp_path, "empty.txt")
    lay(tmp_path, "in/a.txt")
    said = mypt("prepare", tmp_path / "in", "--out", tmp_path / "d", "--workers", "1", "--val-share", "0.5", ok=False)
    assert flat(f"Left out of {tmp_path / 'in'}: 1 hidden (.a.txt)") in flat(said.output)
