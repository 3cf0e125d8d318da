"""`mypt evaluate`."""

import typer

from mypt.checkpoint.layout import display_path
from mypt.cli.arguments import AsJson, BundleName, Device, ModelName, OutDir, chosen_name
from mypt.cli.console import busy, console, echo_json, say
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.schema.base import to_json_text
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.evaluation import EvaluateConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings({"Evaluation": EvaluateConfig}),
    epilog="Example: mypt evaluate dante --input-file paradiso.txt",
)
def evaluate(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure any bundle on a whole text: loss, perplexity, and bits per byte, which compare across tokenizers."""
    config = resolve_section(EvaluateConfig, given_settings(ctx))
    chosen = chosen_name(name, model_name)
    with busy("Evaluating") as now:
        from mypt.run.evaluate import evaluate as measure

        found = measure(chosen, out_dir, config, device, now)
    if as_json:
        echo_json(to_json_text(found, indent=True))
        return
    from mypt.cli.render.evaluation import figures_table, heading, task_table

    out = console(ctx)
    for evaluation in found.evaluations:
        say(out, heading(evaluation))
        out.print(task_table(evaluation) if evaluation.kind == "task" else figures_table(evaluation))
    said = f"Recorded in {display_path(found.log)}." if found.log else "Not recorded: the bundle has no log here."
    say(out, said)
