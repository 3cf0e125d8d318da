"""The arguments and options that several verbs have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mypt.checkpoint.layout import bundle_names
from mypt.cli.render.curves import Axis
from mypt.schema.settings.output import DEFAULT_OUT_DIR, OutputConfig


def names_that_begin(incomplete: str) -> list[str]:
    """The models that a shell offers."""
    return [name for name in bundle_names(DEFAULT_OUT_DIR) if name.startswith(incomplete)]


def name_argument(help: str) -> Any:  # noqa: A002 - typer's own word
    """NAME, as an argument that a shell completes."""
    return typer.Argument(help=help, metavar="NAME", show_default=False, autocompletion=names_that_begin)


RunName = Annotated[str | None, name_argument("Name of the model; `default` when not given.")]
BundleName = Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")]
ModelName = Annotated[
    str | None, typer.Option("--model-name", help="The same as NAME.", metavar="NAME", show_default=False)
]
OutDir = Annotated[Path, typer.Option("--out-dir", help=OutputConfig.model_fields["out_dir"].description)]
LogName = Annotated[
    str,
    typer.Argument(
        help="Path of a log, or name of a model.",
        metavar="LOG|NAME",
        show_default=False,
        autocompletion=names_that_begin,
    ),
]
Over = Annotated[Axis, typer.Option("--over", help="Draw over tokens, steps or time.", metavar="AXIS")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def chosen_name(name: str | None, model_name: str | None, default: str | None = None) -> str:
    """NAME from its two spellings.

    Raises:
        typer.BadParameter: they differ, or neither is given where there is no default.
    """
    if name and model_name and name != model_name:
        raise typer.BadParameter(f"NAME is {name} and --model-name is {model_name}; give one of them.")
    chosen = name if name is not None else model_name if model_name is not None else default
    if chosen is None:
        raise typer.BadParameter("NAME is missing; give the name of a model.")
    return chosen
