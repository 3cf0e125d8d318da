"""The folder of a dataset while it is made: whose it is, and what of it is still of use."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mypt.checkpoint.layout import TOKENIZER_FILE
from mypt.data.prepare.workers import PLAN_FILE, Job, commit_json, read_plan
from mypt.errors import ConflictError
from mypt.schema.files.dataset import METADATA_FILE, UNFINISHED
from mypt.schema.files.prepare_plan import PreparePlan

SPLITS = ("train", "val")


def check_free(out: Path) -> None:
    """Refuse a folder that holds anything but an unfinished dataset.

    Raises:
        ConflictError: it does.
    """
    todo, begun = "Choose another folder with --out, or move this one.", (out / UNFINISHED / PLAN_FILE).is_file()
    if (out / METADATA_FILE).exists():
        if begun:
            shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        raise ConflictError(f"{out} holds a complete dataset already.", todo)
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file, not a folder.", todo)
    if out.is_dir() and not begun and any(p.is_file() and p.name != f"{PLAN_FILE}.writing" for p in out.rglob("*")):
        raise ConflictError(f"{out} is not empty, and what is in it is not an unfinished dataset.", todo)


def discard(out: Path) -> None:
    """Remove what calls have written, and nothing that someone laid beside it."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    for file in (out / TOKENIZER_FILE, *(shard for split in SPLITS for shard in (out / split).glob("*.bin"))):
        file.unlink(missing_ok=True)
    for folder in (*(out / split for split in SPLITS), out):
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def claim(out: Path, plan: PreparePlan, notice: Callable[[str], None]) -> None:
    """Write the plan into the folder, or check that the folder already has the same plan.

    Where nothing but the content of inputs was changed since, what was made of these is removed and made anew.

    Raises:
        ConflictError: it has another plan.
    """
    plan_file = out / UNFINISHED / PLAN_FILE
    if not plan_file.exists():
        for name in (UNFINISHED, *SPLITS):
            (out / name).mkdir(parents=True, exist_ok=True)
        commit_json(out, plan_file, plan)
        return
    old = read_plan(out)
    if plan.config.skip_bad_rows:  # which changes nothing in units that were finished without it
        old = old.model_copy(update={"settings": old.settings | {"skip_bad_rows": True}})
    if different := differences(old, plan):
        changed = _changed(old, plan)
        if len(changed) < len(different):
            raise ConflictError(
                f"{out} holds an unfinished dataset that another call began.",
                "Repeat that call to finish it, choose another --out, or remove the folder to start over.",
                different,
            )
        kept = _forget(out, old, plan)
        notice(f"Changed since, and read anew: {', '.join(changed)}. Finished units that are kept: {kept}.")
    commit_json(out, plan_file, plan)


def _forget(out: Path, old: PreparePlan, new: PreparePlan) -> int:
    """Remove what was made of inputs that were changed; returns the number of finished units that stay."""
    every = (out / TOKENIZER_FILE).exists() and old.config.tokenizer_of is None and old.config.tokenization != "gpt2"
    if every:  # the vocabulary is made of all texts
        (out / TOKENIZER_FILE).unlink()
    same = [not every and was == now for was, now in zip(old.sources, new.sources, strict=True)]
    for number, unchanged in enumerate(same):
        if not unchanged:
            Job("source", number).record_path(out).unlink(missing_ok=True)
    kept = 0
    for number, unit in enumerate(old.units):
        record = Job("unit", number).record_path(out)
        if new.units[number : number + 1] == (unit,) and all(same[part.source] for part in unit.parts):
            kept += record.exists()
            continue
        record.unlink(missing_ok=True)
        for split in SPLITS:
            for shard in (out / split / f"{number:05}.bin", out / split / f"{number:05}_mask.bin"):
                shard.unlink(missing_ok=True)
    return kept


def _changed(old: PreparePlan, new: PreparePlan) -> list[str]:
    """Paths of inputs of which nothing but the content was changed."""
    content = {"bytes": 0, "mtime_ns": 0}
    return [
        now.path
        for was, now in zip(old.sources, new.sources, strict=False)
        if was != now and was.model_copy(update=content) == now.model_copy(update=content)
    ]


def differences(old: PreparePlan, new: PreparePlan) -> list[str]:
    """What differs between two plans, a sentence each."""
    found = [
        f"{name} was {old.settings.get(name)} and is {value} now."
        for name, value in new.settings.items()
        if old.settings.get(name) != value
    ]
    before, after = ({source.path: source for source in plan.sources} for plan in (old, new))
    found += [f"{path} was an input and is none now." for path in before if path not in after]
    found += [f"{path} is an input now and was none." for path in after if path not in before]
    for path in (path for path in before if path in after):
        was, now = before[path], after[path]
        if was.split != now.split:
            found.append(f"{path} was in {was.split or 'both'} and is in {now.split or 'both'} now.")
        if was != now.model_copy(update={"split": was.split}):
            found.append(f"{path} has been changed since.")
    if not found and old.units != new.units:
        found.append("This version of mypt divides the inputs in a different way.")
    return found
