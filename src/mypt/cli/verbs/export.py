"""`mypt export-fp16`."""

from pathlib import Path
from typing import Annotated

import typer

from mypt import units
from mypt.cli.verb import chosen_name, console, model_name_option, name_argument, out_dir_option, verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(app, "export-fp16", example="mypt export-fp16 dante")
    def export_fp16(
        name: Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        out: Annotated[Path | None, typer.Option("--out", help="The bundle to write, by default NAME_fp16.")] = None,
        out_dir: Annotated[Path, out_dir_option()] = DEFAULT_OUT_DIR,
    ) -> None:
        """Write a light bundle for deployment: fp16 weights, no optimizer, and what the rounding cost."""
        chosen = chosen_name(name, model_name, "default")
        from mypt.cli.render.progress import ConsoleObserver
        from mypt.run.export import export_bundle

        console_out = console()
        export = export_bundle(chosen, out_dir, out, ConsoleObserver(console_out, chosen))
        lines = [
            f"Exported {export.path.as_posix()}",
            f"  weights: {units.size(export.bytes_before)} before, {units.size(export.bytes_after)} after",
            f"  largest rounding error: {export.rounding.error:.3g} in {export.rounding.tensor}",
        ]
        if export.val_loss_before is not None and export.val_loss_after is not None:
            lines.append(f"  val loss: {export.val_loss_before:.6f} before, {export.val_loss_after:.6f} after")
        for line in lines:
            console_out.print(line, markup=False, soft_wrap=True)
