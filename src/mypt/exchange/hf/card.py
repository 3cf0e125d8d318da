"""README.md of an exported folder: a model card made of the record of the bundle."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from mypt import units
from mypt.checkpoint.lineage import Ancestor
from mypt.model.cost import parameter_count
from mypt.schema.files.export import ExportRecord
from mypt.schema.files.state import DataRecord, TrainingState
from mypt.schema.files.tokenizer import TokenizerFile

_SETTINGS = (
    "optimizer", "learning_rate", "lr_schedule", "warmup_iters", "max_iters", "grad_accum_steps", "weight_decay",
    "seed",
)  # fmt: skip
"""What a reader of a card looks for; the bundle's record has all of them."""
_USUAL = "Once upon a time"


def card(record: ExportRecord, state: TrainingState, tokenizer: TokenizerFile, ancestors: Sequence[Ancestor]) -> str:
    """The text of the card.

    Of what was read it gives names, sizes and hashes; folders of the machine that trained are nobody's business.

    Args:
        record: of the export.
        state: of the bundle.
        tokenizer: what the ids mean.
        ancestors: what the bundle descends from, oldest first, and the bundle itself last.
    """
    parts = [
        f"# {record.bundle}\n\n{_summary(record, state)}",
        f"## Use\n\n{_use(record, tokenizer)}",
        f"## Model\n\n{_table(_model_rows(record, tokenizer))}",
        *_training(record, state),
        *_data(state),
        f"## Lineage\n\n{_lineage(ancestors)}",
        f"## Proof\n\n{_proof(record)}",
    ]
    return "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- mypt\n---\n\n" + "\n\n".join(parts)


def _summary(record: ExportRecord, state: TrainingState) -> str:
    size = units.parameters(parameter_count(record.config))
    if state.imported is not None:
        return f"A GPT of {size} parameters, imported from {state.imported.model_type} by mypt {record.mypt}."
    loss = "" if record.val_loss is None else f", val loss {record.val_loss:.4f}"
    return f"A GPT of {size} parameters, trained by mypt {record.mypt} to step {record.step:,}{loss}."


def _use(record: ExportRecord, tokenizer: TokenizerFile) -> str:
    trust = ", trust_remote_code=True" if record.with_code else ""
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines.append(f'model = AutoModelForCausalLM.from_pretrained("."{trust})')
    if tokenizer.token_kind != "ids":
        lines += [
            f'tokenizer = AutoTokenizer.from_pretrained("."{trust})',
            f'ids = tokenizer({_prompt(tokenizer)!r}, return_tensors="pt").input_ids',
            "print(tokenizer.decode(model.generate(ids)[0]))",
        ]
    code = "\n".join(["```python", *lines, "```"])
    needs = "\n\nThe class is part of mypt, which has to be installed: `pip install mypt`." if record.with_code else ""
    return f"{code}{needs}\n\nIts context is {record.config.block_size:,} tokens; it knows no position beyond."


def _prompt(tokenizer: TokenizerFile) -> str:
    """A text that the vocabulary knows."""
    known = set(tokenizer.chars or _USUAL)
    return _USUAL if known.issuperset(_USUAL) else max(known, key=str.isalpha)


def _model_rows(record: ExportRecord, tokenizer: TokenizerFile) -> list[tuple[str, object]]:
    config = record.config
    return [
        ("class", record.architecture),
        ("parameters", f"{parameter_count(config):,}"),
        ("layers", config.n_layer),
        ("heads", config.n_head if config.kv_heads == config.n_head else f"{config.n_head}, {config.kv_heads} of keys"),
        ("channels", config.n_embd),
        ("context", f"{config.block_size:,} tokens"),
        ("vocabulary", f"{tokenizer.token_kind}, {tokenizer.vocab_size:,} tokens of {config.vocab_size:,} rows"),
        ("weights", record.dtype),
        ("SHA-256 of the bundle's weights", f"`{record.weights_sha256}`"),
    ]


def _training(record: ExportRecord, state: TrainingState) -> list[str]:
    if state.imported is not None:
        return []
    progress, training = state.progress, state.training_config
    rows: list[tuple[str, object]] = [
        ("run", f"{record.run} {record.run_id or ''}".strip()),
        ("steps", f"{state.step:,}"),
        ("tokens", f"{progress.tokens_processed:,}"),
        ("train loss", _number(progress.last_train_loss)),
        ("val loss", _number(progress.last_val_loss)),
        ("val bits per byte", _number(progress.last_val_bpb)),
        ("tokens in a step", f"{record.config.batch_size * record.config.block_size * training.grad_accum_steps:,}"),
    ]
    rows += [(name, getattr(training, name)) for name in _SETTINGS if hasattr(training, name)]
    return [f"## Training\n\n{_table(row for row in rows if row[1] is not None)}"]


def _data(state: TrainingState) -> list[str]:
    known = {"training and validation": state.data, **{f"phase {p.name}": p.data for p in state.curriculum}}
    known |= {f"eval set {name}": data for name, data in state.eval_sets.items()}
    parts = [f"### {name.capitalize()}\n\n{_table(_data_rows(data))}" for name, data in known.items() if data]
    return ["\n\n".join(["## Data", *parts])] if parts else []


def _data_rows(data: DataRecord) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        (PurePath(s.path).name or s.path, f"{s.bytes:,} bytes, SHA-256 `{s.sha256}`") for s in data.sources
    ]
    return [
        *rows,
        ("fingerprint", f"`{data.fingerprint}`"),
        ("tokens", f"{data.train_tokens:,} for training, {data.val_tokens:,} for validation"),
    ]


def _lineage(ancestors: Sequence[Ancestor]) -> str:
    return "\n".join(
        f"- {PurePath(a.name).name}, step {a.step:,}" + (f" ({a.note})" if a.note else "") for a in ancestors
    )


def _proof(record: ExportRecord) -> str:
    proof = record.proof
    lines = [f"- Weights read back: the largest difference is {proof.weights:.3g}."]
    if proof.program is not None and proof.outputs is not None:
        lines.append(
            f"- {proof.program} against mypt: the largest difference of a logit is {proof.outputs:.3g}, and "
            f"{proof.same} of {proof.tokens} most likely tokens are the same."
        )
    lines += [f"- {note}" for note in proof.notes]
    return "\n".join(lines) + "\n\n`mypt verify` on this folder checks it against `mypt.json`.\n"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _table(rows: Iterable[tuple[str, object]]) -> str:
    cells = [(name.replace("|", "\\|"), str(value).replace("|", "\\|")) for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])
