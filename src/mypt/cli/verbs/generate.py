"""`mypt generate`."""

import sys
from itertools import chain

import typer

from mypt.checkpoint.layout import bundle_path
from mypt.cli.arguments import BundleName, Device, ModelName, OutDir, chosen_name
from mypt.cli.console import error_console, say
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.generation import GenerateConfig, GenerationConfig, PromptConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.visible import visible

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings({"Prompt": PromptConfig, "Generation": GenerationConfig}),
    epilog='Example: mypt generate dante --prompt "Nel mezzo" --max-new-tokens 200',
)
def generate(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    device: Device = "auto",
) -> None:
    """Continue a text, or answer a message, with any bundle: the last one, gold or fp16."""
    config = resolve_section(GenerateConfig, given_settings(ctx))
    chosen = chosen_name(name, model_name)
    from mypt.cli.next_calls import after_generating
    from mypt.run.generate import read_prompt, stream_samples

    prompt = read_prompt(config)
    samples = stream_samples(chosen, out_dir, config, prompt, device, lambda line: say(error_console(), line))
    several, terminal = config.num_samples > 1, sys.stdout.isatty()
    shown = visible if terminal else _without_nul if several else str  # a pipe gets what the model wrote
    for number, pieces in enumerate(samples):
        if several and terminal:
            above, seed = "\n" if number else "", config.seed_of(number)
            sys.stdout.write(f"{above}── sample {number + 1} of {config.num_samples}, seed {seed} ──\n")
        for piece in pieces if config.chat else chain([prompt], pieces):
            sys.stdout.write(shown(piece))
            sys.stdout.flush()
        sys.stdout.write("\0" if several and not terminal else "\n")
    sys.stdout.flush()
    if terminal and error_console().is_terminal:
        say(error_console(), *after_generating(bundle_path(chosen, out_dir)))


def _without_nul(text: str) -> str:
    """A text that a NUL can end."""
    return text.replace("\0", "\\x00")
