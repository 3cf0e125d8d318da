"""`mypt generate`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.cli.verb import Settings, chosen_name, model_name_option, name_argument, out_dir_option, verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

if TYPE_CHECKING:
    from mypt.schema.base import Section


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(
        app, "generate", _sections,
        example='mypt generate dante --prompt "Nel mezzo" --max-new-tokens 200',
    )  # fmt: skip
    def generate(
        settings: Settings,
        name: Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        out_dir: Annotated[Path, out_dir_option()] = DEFAULT_OUT_DIR,
        device: Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:N or mps.")] = (
            "auto"
        ),
    ) -> None:
        """Continue a text with any bundle: the last one, gold or fp16."""
        from mypt.schema.resolve import resolve_section
        from mypt.schema.settings.generation import GenerationConfig

        config = resolve_section(GenerationConfig, settings)
        chosen = chosen_name(name, model_name, "default")
        from mypt.run.generate import stream_text  # heavy, so that a wrong call is told before

        pieces = stream_text(chosen, out_dir, config, device)
        sys.stdout.write(config.prompt)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


def _sections() -> "Mapping[str, type[Section]]":
    from mypt.schema.settings.generation import GenerationConfig

    return {"Generation": GenerationConfig}
