"""`mypt config check`."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mypt.cli.arguments import IgnoreUnknown, presets_that_begin
from mypt.cli.console import console, echo_json, say
from mypt.cli.verb import Verb, group
from mypt.errors import MyptError
from mypt.regular import expanded
from mypt.schema.json_files import read_bounded
from mypt.schema.settings.output import DEFAULT_OUT_DIR

if TYPE_CHECKING:
    from mypt.schema.settings.run import RunSettings

_LARGEST_TEXT = 1 << 28
_LARGEST_METADATA = 1 << 28
"""What is read to count tokens; a larger text is left to the run."""

app = group("config", "Look at config files.")


@app.command(cls=Verb, epilog="Example: mypt config check dante.json")
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A flat JSON file of settings.", metavar="FILE")],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="The preset that the file is to be used with.", autocompletion=presets_that_begin
        ),
    ] = None,
    ignore_unknown: IgnoreUnknown = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of all settings.")] = False,
) -> None:
    """Say everything that is wrong with a config file at once, or show what its settings come to."""
    from mypt.cli.render.settings import config_costs_table, settings_tables
    from mypt.schema.resolve import resolve_settings

    missing: list[str] = []
    settings = resolve_settings(
        {}, file, preset, lambda given: _of_the_parent(given, missing), ignore_unknown=ignore_unknown
    )
    if as_json:
        values = {n: v for s in settings.sections() for n, v in s.model_dump(mode="json").items()}
        echo_json(json.dumps(values, indent=2, ensure_ascii=False))
        return
    out = console(ctx)
    say(out, *settings.notes())
    for table in settings_tables(settings):
        out.print(table)
    known = _vocabulary(settings)
    model = settings.model.model_copy(update={"vocab_size": known} if known else {})
    out.print(config_costs_table(settings.model_copy(update={"model": model}), is_known=known is not None))
    missing += [f"{path} is not here, on this machine, from this folder." for path in settings.data.missing_paths()]
    say(out, *missing, _verdict(file, len(missing)))


def _verdict(file: Path, missing: int) -> str:
    if not missing:
        return f"{file} is right."
    named = "what it names is" if missing == 1 else f"{missing} things that it names are"
    return f"The settings of {file} are right, but {named} missing: a run would not start here."


def _of_the_parent(given: Mapping[str, Any], missing: list[str]) -> Mapping[str, Any]:
    """The architecture of the model to start from, which the run takes over; that it is missing is noted."""
    from mypt.checkpoint.files import read_config
    from mypt.checkpoint.layout import bundle_path

    name, place = given.get("init_from_model"), given.get("out_dir", DEFAULT_OUT_DIR)
    if not isinstance(name, str) or not isinstance(place, str | Path):
        return {}
    try:
        return read_config(bundle_path(name, Path(place))).model_dump(exclude={"device"})
    except MyptError as error:
        missing.append(f"init_from_model: {error.what}")
        return {}


def _vocabulary(settings: "RunSettings") -> int | None:
    """The tokens that a run with these settings knows, as far as what they name is here to be read."""
    from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata

    data = settings.data
    if "vocab_size" in settings.given or settings.training.init_from_model:
        return settings.model.vocab_size
    folders = [folder for folder in (data.dataset_dir, *(phase.dataset_dir for phase in data.phases)) if folder]
    with suppress(OSError, ValueError):
        if folders:
            described = read_bounded(expanded(folders[0]) / METADATA_FILE, _LARGEST_METADATA)
            return DatasetMetadata.model_validate_json(described).vocab_size
        if data.tokenization == "gpt2":
            return settings.model.vocab_size
        if data.tokenization == "char" and len(data.input_file) == 1 and data.input_file[0].endswith(".txt"):
            return len({*read_bounded(expanded(data.input_file[0]), _LARGEST_TEXT).decode("utf-8")})
    return None
