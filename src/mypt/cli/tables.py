"""Records as rich tables: pure functions from data to something that can be printed."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from mypt.record import human
from mypt.record.bundle import log_of, nearby
from mypt.record.changes import Change
from mypt.record.info import BundleInfo
from mypt.record.lineage import Ancestor
from mypt.record.overview import BundleRow
from mypt.record.plan import Plan
from mypt.schema.arithmetic import flops_per_token, parameter_count, parameters_by_part, training_memory
from mypt.schema.fields import extra_of
from mypt.schema.presets import PRESETS
from mypt.schema.resolve import resolve_settings
from mypt.schema.run import SECTIONS, RunSettings
from mypt.schema.state import DataRecord

_MEANING = {
    "harmless": "harmless",
    "trajectory": "changes the trajectory",
    "refused": "refused",
}


def plan_table(plan: Plan) -> Table:
    """What a run is about to do and what it takes."""
    data, config, training = plan.data, plan.config, plan.training
    measured = f", {human.size(plan.memory_measured)} measured" if plan.memory_measured else ""
    total = plan.training_s + plan.evaluating_s
    rows = [
        ("data", _data_size(data)),
        ("coverage", f"the run sees the training text {plan.coverage:.3g} times"),
        ("model", _model_line(plan)),
        ("computing", f"{config.device} in {plan.precision}, {plan.tokens_per_step:,} tokens a step"),
        ("memory", f"about {human.size(plan.memory_estimate)} estimated{measured}"),
        ("disk", f"{human.size(plan.disk_needed)} needed, {human.size(plan.disk_free)} free"),
        (
            "steps",
            f"{plan.first_step:,} to {training.max_iters:,}; evaluates and saves every {training.eval_interval:,}",
        ),
        (
            "time",
            f"about {human.duration(total)}: {human.duration(plan.training_s)} training at "
            f"{plan.step_s * 1000:,.0f} ms a step (measured), {human.duration(plan.evaluating_s)} evaluating",
        ),
    ]
    if plan.evaluating_s > plan.training_s:
        rows.append(("hint", "evaluating takes longer than training: a smaller --eval-iters costs only precision"))
    return _pairs(f"Plan for {escape(plan.name)}", rows)


def changes_table(changes: Sequence[Change]) -> Table:
    """What differs from the recorded run."""
    table = Table(title="Changed since the record", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("setting", "recorded", "now", "what it means"):
        table.add_column(heading, overflow="fold")
    for c in changes:
        table.add_row(c.name, escape(str(c.recorded)), escape(str(c.now)), _MEANING[c.meaning])
    return table


def presets_table() -> Table:
    """The shipped presets with what they cost."""
    table = Table(title="Presets", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    for heading in ("parameters", "memory", "work per token"):
        table.add_column(heading, justify="right")
    table.add_column("what it is for")
    for name in PRESETS:
        row = preset_costs(name)
        table.add_row(
            name,
            ("about " if row["vocab_size_follows_text"] else "") + human.parameters(row["parameters"]),
            human.size(row["memory_bytes"]),
            human.flop(row["flops_per_token"]),
            PRESETS[name].help,
        )
    return table


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
    """Every setting with its value and where it comes from."""
    tables = []
    for heading, section in zip(SECTIONS, settings.sections(), strict=True):
        names = [n for n in type(section).model_fields if extra_of(type(section), n)["config"]]
        values = section.model_dump(mode="json")
        rows = [(n, _plain(values[n]), settings.given.get(n, "default")) for n in names]
        table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD)
        for title in ("setting", "value", "from"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        tables.append(table)
    return tables


def config_costs_table(settings: RunSettings) -> Table:
    """What a run with these settings is, as far as the config alone tells."""
    model, training = settings.model, settings.training
    tokens = model.batch_size * model.block_size * training.grad_accum_steps
    rows = [
        ("parameters", human.parameters(parameter_count(model))),
        ("tokens a step", f"{tokens:,}"),
        ("tokens in all", human.count(tokens * training.max_iters)),
        ("work in all", human.flop(flops_per_token(model) * tokens * training.max_iters)),
        ("memory", f"about {human.size(training_memory(model))}"),
    ]
    if "vocab_size" not in settings.given and settings.data.tokenization != "gpt2":
        rows.append(("note", "the vocabulary follows the text, so these figures are too large"))
    return _pairs("What it comes to", rows)


def dataset_tables(description: Mapping[str, Any]) -> list[Table]:
    """A dataset's own figures, its splits and its sources."""
    d = description
    rows = [
        ("folder", d["folder"]),
        ("format", d["format"]),
        ("tokenizer", f"{d['tokenization']}, {d['vocab_size']:,} tokens"),
        ("ids", d["dtype"]),
        ("loss masks", "yes" if d["masked"] else "no"),
        ("fingerprint", d["fingerprint"]),
    ]
    splits = [
        (
            name,
            f"{s['tokens']:,}",
            "unknown" if s["documents"] is None else f"{s['documents']:,}",
            str(s["shards"]),
            human.size(s["bytes"]),
        )
        for name, s in d["splits"].items()
    ]
    tables = [_pairs("Dataset", rows), _rows("Splits", ("split", "tokens", "documents", "shards", "size"), splits)]
    if d["sources"]:
        sources = [(s["path"], human.size(s["bytes"]), s["sha256"][:12] + "…") for s in d["sources"]]
        tables.append(_rows("Sources", ("file", "size", "SHA-256"), sources))
    return tables


def samples_table(pieces: Iterable[tuple[str, str, int, str]]) -> Table:
    """Decoded pieces of a dataset: (split, shard, offset, text)."""
    table = Table(title="Samples", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("split", "shard", "offset", "text"):
        table.add_column(heading, justify="right" if heading == "offset" else "left", overflow="fold")
    for split, shard, offset, text in pieces:
        shown = text.replace("\r", "").replace("\n", "⏎").replace("\t", " ")
        table.add_row(split, shard, f"{offset:,}", escape(shown))
    return table


def checks_table(checks: Sequence[tuple[str, str, bool | None, str]]) -> Table:
    """One line for each check of a bundle: (bundle, check, whether it holds or None, what was found)."""
    table = Table(title="Checks", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("bundle", "check", "result", "found"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "result")
    words = {True: "[green]ok[/]", False: "[bold red]FAULT[/]", None: "not checked"}
    for bundle, name, ok, found in checks:
        table.add_row(escape(bundle), name, words[ok], escape(found))
    return table


def inspect_tables(info: BundleInfo) -> list[Table]:
    """Architecture, parameters by part, tokenizer and data, and files of a bundle."""
    config = [(n, _plain(v)) for n, v in info.config.model_dump().items()]
    parts = parameters_by_part(info.config)
    total = sum(parts.values())
    shares = [(part, f"{n:,}", f"{n / total:.1%}") for part, n in parts.items() if n]
    files = [
        (f.name, f"{f.bytes:,}", human.size(f.bytes), " ".join(f.dtypes), f"{f.sha256[:12]}…" if f.sha256 else "",
         f.checked)
        for f in info.files
    ]  # fmt: skip
    return [
        _pairs("Architecture", config),
        _rows("Parameters", ("part", "count", "share"), [*shares, ("total", f"{total:,}", "100.0%")]),
        _pairs("Tokenizer and data", _text_rows(info)),
        _rows("Files", ("file", "bytes", "size", "dtype", "SHA-256", "matches"), files),
    ]


def state_lines(info: BundleInfo) -> list[str]:
    """The spec's lines on the training state, then what the record holds beyond them."""
    state, progress = info.state, info.state.progress
    lines = ["=== TRAINING STATE ===", f"Last recorded training step: {state.step}", "Training configuration:"]
    lines += [f"  {n}: {_plain(v)}" for n, v in state.training_config.model_dump().items()]
    if progress.best_val_loss is not None:
        lines.append(f"Best val loss: {progress.best_val_loss:.4f} at step {progress.best_step}")
    if progress.last_val_loss is not None and progress.last_train_loss is not None:
        lines.append(f"Last val loss: {progress.last_val_loss:.4f} (train {progress.last_train_loss:.4f})")
    lines.append(f"Tokens processed: {progress.tokens_processed:,}")
    exact = "exact" if state.exact_resume else "not exact" if state.optimizer_file else "not possible (no optimizer)"
    lines.append(f"Resume: {exact}")
    log = log_of(info.path, state)
    lines += [f"Log: {nearby(log)}"] if log else []
    lines += [f"Saved: {state.saved_at}"] if state.saved_at else []
    if state.environment:
        e = state.environment
        lines.append(f"Made with: mypt {e.mypt}, torch {e.torch}, Python {e.python}, {e.device}, {e.threads} threads")
    return lines


def _text_rows(info: BundleInfo) -> list[tuple[str, str]]:
    tokenizer, data = info.tokenizer, info.state.data
    rows = [("tokenizer", f"{tokenizer.token_kind}, {tokenizer.vocab_size:,} tokens")]
    if data is not None:
        kind = "shards" if data.dataset_dir else "text"
        rows += [(kind, f"{s.path} ({human.size(s.bytes)})") for s in data.sources]
        rows.append(("size", _data_size(data)))
        rows.append(("fingerprint", data.fingerprint))
    return rows


def overview_table(rows: Sequence[BundleRow]) -> Table:
    """All bundles of a folder, one line each."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("name", "params", "step", "best val", "bpb", "tokens", "saved", "state"):
        justify: Literal["left", "right"] = "left" if heading in ("name", "saved", "state") else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading != "name")
    for row in rows:
        table.add_row(
            escape(row.name),
            _or_dash(row.parameters, human.parameters),
            _or_dash(row.step, "{:,}".format),
            _or_dash(row.best_val_loss, "{:.4f}".format),
            _or_dash(row.best_val_bpb, "{:.4f}".format),
            _or_dash(row.tokens_processed, human.count),
            (row.saved_at or "-")[2:16].replace("T", " "),
            "complete" if row.damage is None else "[bold red]damaged[/]",
        )
    return table


def lineage_tree(line: Sequence[Ancestor], gold_step: int | None) -> Tree:
    """What a bundle descends from, each with its commands."""
    tree = node = Tree("Lineage")
    for ancestor in line:
        note = f" ({ancestor.note})" if ancestor.note else ""
        node = node.add(escape(f"{ancestor.name}, step {ancestor.step}{note}"))
        for command in ancestor.commands:
            node.add(f"[dim]{escape(command)}[/dim]")
    if gold_step is not None:
        node.add(f"gold at step {gold_step}")
    return tree


def _or_dash(value: Any, shown: Callable[[Any], str]) -> str:
    return "-" if value is None else shown(value)


def _data_size(data: DataRecord) -> str:
    characters = f"{data.characters:,} characters, " if data.characters is not None else ""
    tokens = f"{data.train_tokens + data.val_tokens:,} tokens"
    return f"{characters}{tokens} ({data.train_tokens:,} train, {data.val_tokens:,} val)"


def _model_line(plan: Plan) -> str:
    c = plan.config
    return (
        f"{human.parameters(plan.parameters)} parameters: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, "
        f"context {c.block_size}, vocabulary {c.vocab_size:,}"
    )


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def _rows(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _plain(value: object) -> str:
    """As it stands in the JSON file: true, null, 0.0003, rope."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
