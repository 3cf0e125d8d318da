"""Settings, where each comes from, and what they come to; the presets with what each costs."""

from typing import Any

from rich.table import Table

from mypt import units
from mypt.cli.render.tables import columns_table, pairs_table, plain
from mypt.model.cost import flops_per_token, parameter_count, training_memory
from mypt.schema.base import extra_of
from mypt.schema.resolve import resolve_settings
from mypt.schema.settings.presets import PRESETS
from mypt.schema.settings.run import SECTIONS, RunSettings
from mypt.train.plan import doubtful_settings


def presets_table() -> Table:
    """The shipped presets with what they cost."""
    figures = ("parameters", "memory", "work per token")
    rows = [
        (
            row["name"],
            ("about " if row["vocab_size_follows_text"] else "") + units.parameters(row["parameters"]),
            units.size(row["memory_bytes"]),
            units.flop(row["flops_per_token"]),
            row["description"],
        )
        for row in map(preset_costs, PRESETS)
    ]
    return columns_table("Presets", ("name", *figures, "what it is for"), rows, right=figures, whole=("name", *figures))


def preset_costs(name: str) -> dict[str, Any]:
    """A preset's settings and costs; a char vocabulary, which the text decides, is taken as 100 characters."""
    settings = resolve_settings({}, preset=name)
    follows = settings.data.tokenization != "gpt2"
    config = settings.model.model_copy(update={"vocab_size": 100}) if follows else settings.model
    return {
        "name": name,
        "description": PRESETS[name].help,
        "settings": PRESETS[name].settings,
        "vocab_size_follows_text": follows,
        "parameters": parameter_count(config),
        "memory_bytes": training_memory(config),
        "flops_per_token": flops_per_token(config),
    }


def settings_tables(settings: RunSettings) -> list[Table]:
    """Every setting with its value and where it comes from: first what is given, then the defaults by section."""
    given, tables = [], []
    for heading, section in zip(SECTIONS, settings.sections(), strict=True):
        names = [n for n in type(section).model_fields if extra_of(type(section), n)["config"]]
        values = section.model_dump(mode="json")
        given += [(n, plain(values[n]), settings.given[n]) for n in names if n in settings.given]
        rows = [(n, plain(values[n])) for n in names if n not in settings.given]
        tables.append(columns_table(f"{heading}, not given", ("setting", "value"), rows))
    return [columns_table("Given", ("setting", "value", "from"), given), *tables]


def config_costs_table(settings: RunSettings, *, is_known: bool) -> Table:
    """What a run with these settings is.

    Args:
        settings: with the vocabulary of what they name.
        is_known: whether that was here to be read.
    """
    model, training = settings.model, settings.training
    tokens = model.batch_size * model.block_size * training.grad_accum_steps
    rows = [
        ("parameters", units.parameters(parameter_count(model))),
        ("tokens a step", f"{tokens:,}"),
        ("tokens in all", units.count(tokens * training.max_iters)),
        ("work in all", units.flop(flops_per_token(model) * tokens * training.max_iters)),
        ("memory", f"about {units.size(training_memory(model, training))}"),
    ]
    if not is_known:
        rows.append(("note", "the vocabulary follows the text, so these figures are too large"))
    phases = [(p.name, p.until_iter) for p in settings.data.curriculum.phases] if settings.data.curriculum else ()
    rows += [("note", note) for note in doubtful_settings(training, phases)]
    return pairs_table("What it comes to", rows)
