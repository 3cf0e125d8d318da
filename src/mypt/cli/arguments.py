"""The arguments and options that several verbs have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mypt.checkpoint.layout import bundle_names
from mypt.schema.settings.output import DEFAULT_OUT_DIR, Axis, OutputConfig


def names_that_begin(incomplete: str) -> list[str]:
    """The models that a shell offers."""
    return [name for name in bundle_names(DEFAULT_OUT_DIR) if name.startswith(incomplete)]


def presets_that_begin(incomplete: str) -> list[str]:
    """The presets that a shell offers."""
    from mypt.schema.settings.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def events_that_begin(incomplete: str) -> list[str]:
    """The events that a shell offers."""
    from mypt.schema.files.events import EVENTS

    return [name for name in EVENTS if name.startswith(incomplete)]


def tags_that_begin(incomplete: str) -> list[str]:
    """The tags that a shell offers."""
    from mypt.order.labels import tags_in

    return sorted(tag for tag in set().union(*tags_in(DEFAULT_OUT_DIR).values()) if tag.startswith(incomplete))


def name_argument(help: str, metavar: str = "NAME") -> Any:  # noqa: A002 - typer's own word
    """The name of a model, as an argument that a shell completes."""
    return typer.Argument(help=help, metavar=metavar, autocompletion=names_that_begin)


def log_argument(help: str) -> Any:  # noqa: A002 - typer's own word
    """A log, by its path or by the name of its model."""
    return name_argument(help, "LOG|NAME")


RunName = Annotated[str | None, name_argument("Name of the model; `default` when not given.")]
BundleName = Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")]
ModelName = Annotated[str | None, typer.Option("--model-name", help="The same as NAME.", metavar="NAME")]
OutDir = Annotated[Path, typer.Option("--out-dir", help=OutputConfig.model_fields["out_dir"].description)]
Device = Annotated[
    str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")
]
LogName = Annotated[str, log_argument("Path of a log, or name of a model.")]
Over = Annotated[Axis, typer.Option("--over", help="Draw over tokens, steps or time.", metavar="AXIS")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config-file", "--config", help="A flat JSON file of settings; the call's own options win over it."),
]
IgnoreUnknown = Annotated[
    bool, typer.Option("--ignore-unknown", help="Leave out what the config file has and mypt does not, and list it.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Do everything up to one timed step, print the plan, write nothing.")
]
Tagged = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        help="Only runs with this tag; given again, with all of them.",
        metavar="TAG",
        autocompletion=tags_that_begin,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def chosen_name(name: str | None, model_name: str | None) -> str:
    """NAME from its two spellings; `default` where neither is given.

    Raises:
        typer.BadParameter: they differ.
    """
    if name and model_name and name != model_name:
        raise typer.BadParameter(f"NAME is {name} and --model-name is {model_name}; give one of them.")
    return name if name is not None else model_name if model_name is not None else "default"
