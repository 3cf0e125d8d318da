"""From settings, or from a record, to the data of a run: texts or shards, phases and further sets."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mypt.data.loader import GPTDataLoader, LoaderOptions
from mypt.data.shards import open_shards
from mypt.data.text import STDIN, Text, is_sample, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConfigError, ConflictError, InputError
from mypt.schema.files.state import DataRecord, PhaseRecord, TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig
from mypt.schema.settings.run import RunSettings
from mypt.schema.settings.training import TrainingConfig
from mypt.train.observer import Observer
from mypt.train.run_data import Phase, RunData


def open_data(
    settings: RunSettings, config: GPTConfig, base: Tokenizer | None, observer: Observer
) -> tuple[RunData, GPTConfig]:
    """Open what the settings of a new run name; the architecture comes back with the vocabulary that fits.

    Args:
        settings: of the run.
        config: its architecture; the vocabulary's size may still follow the tokenizer.
        base: the tokenizer of the model that the run starts from; None for a new vocabulary.
        observer: notified of long work, and of defaults that were chosen.

    Raises:
        UsageError: a source is unusable, or does not go with the others.
    """
    if settings.data.dataset_dir or settings.data.curriculum:
        return _open_shards(settings, config, base, observer)
    options = loader_options(settings.data, settings.training)
    with observer.busy("Reading the text"):
        text = read_text(settings.data.input_file)
    if not settings.data.input_file:
        observer.notice(f"No --input-file was given, so this trains on the {text.sources[0].path}.")
    if base:
        _check_kind(settings, base.kind, str(settings.training.init_from_model))
    kind = base.kind if base else settings.data.tokenization
    with observer.busy(f"Tokenizing {len(text.content):,} characters ({kind})"):
        tokenizer = base or build_tokenizer(settings.data, text)
        config = fitting_vocab_size(tokenizer, config, settings, fixed=base is not None)
        loader = GPTDataLoader(config, tokenizer, text=text, options=options)
    if base is None and tokenizer.kind == "bpe":
        loader.record = loader.record.model_copy(update={"bpe_vocab_size": settings.data.bpe_vocab_size})
    return RunData(loader, _eval_sets(settings.data, loader, observer)), config


def loader_options(data: DataConfig, training: TrainingConfig) -> LoaderOptions:
    """How the settings want the data to be read."""
    return LoaderOptions(seed=training.seed, sampling=data.sampling, use_loss_mask=data.use_loss_mask)


def build_tokenizer(data: DataConfig, text: Text) -> Tokenizer:
    """The tokenizer that the settings name, trained on the text where it needs to be."""
    if data.tokenization == "gpt2":
        return Tokenizer.gpt2()
    if data.tokenization == "char":
        return Tokenizer.char(text.content)
    return Tokenizer.train_bpe(text.content, data.bpe_vocab_size)


def fitting_vocab_size(tokenizer: Tokenizer, config: GPTConfig, settings: RunSettings, *, fixed: bool) -> GPTConfig:
    """The architecture with as many rows as the vocabulary needs: as given, the default for gpt2, else its own size.

    Args:
        tokenizer: the vocabulary.
        config: the architecture.
        settings: whether the size was given.
        fixed: the weights exist already, so the size stays.

    Raises:
        ConfigError: there are fewer rows than the tokenizer has tokens.
    """
    stays = fixed or "vocab_size" in settings.given or tokenizer.kind == "gpt2"
    size = config.vocab_size if stays else tokenizer.vocab_size
    if size < tokenizer.vocab_size:
        raise ConfigError(
            f"vocab_size {size} is smaller than the {tokenizer.vocab_size} tokens of the {tokenizer.kind} tokenizer.",
            "Start from a model whose vocabulary has room for the special tokens of a chat."
            if fixed
            else "Leave vocab_size out, or give at least that many.",
        )
    return config.model_copy(update={"vocab_size": size})


def recorded_data(
    state: TrainingState, config: GPTConfig, tokenizer: Tokenizer, given: DataConfig | None, observer: Observer
) -> RunData:
    """The data of a recorded run, found where the record says or where a call says, and checked to be the same.

    Args:
        state: the record.
        config: the architecture.
        tokenizer: of the bundle.
        given: what a call names; None to rely on the record alone.
        observer: notified of long work.

    Raises:
        InputError: something is not to be found.
        ConflictError: something is not what was recorded.
    """
    if state.data is None:
        raise InputError("The record does not say what this model was trained on.", "Train a new model.")
    first = state.sessions[0].training_config if state.sessions else state.training_config
    options = LoaderOptions(seed=first.seed)
    with observer.busy("Opening the data"):
        primary = recorded_loader(state.data, config, tokenizer, options, given)
        phases, start = [], 0
        for phase in state.curriculum:
            phases.append(Phase(phase.name, start, recorded_loader(phase.data, config, tokenizer, options)))
            start = phase.until_iter or start
    if given is not None and given.every_eval_set:
        return RunData(primary, _eval_sets(given, primary, observer), tuple(phases))
    with observer.busy("Opening the eval sets"):
        return RunData(primary, recorded_eval_sets(state.eval_sets, primary), tuple(phases))


def recorded_eval_sets(records: Mapping[str, DataRecord], primary: GPTDataLoader) -> dict[str, GPTDataLoader]:
    """The further sets of a session, with the primary set's tokenizer, checked against their fingerprints.

    Raises:
        InputError: one is not to be found.
        ConflictError: one is not the recorded one.
    """
    return {n: recorded_loader(r, primary.config, primary.tokenizer, primary.options) for n, r in records.items()}


def recorded_loader(
    record: DataRecord, config: GPTConfig, tokenizer: Tokenizer, options: LoaderOptions, given: DataConfig | None = None
) -> GPTDataLoader:
    """One recorded set, checked against its fingerprint.

    Raises:
        InputError: it is not to be found.
        ConflictError: it is not the recorded one.
    """
    options = LoaderOptions(
        eval_only=record.train_tokens == 0,
        seed=options.seed if record.seed is None else record.seed,
        sampling=record.sampling,
        use_loss_mask=record.masked,
    )
    if record.dataset_dir is None:
        if given is not None and given.dataset_dir:
            raise ConflictError(
                f"This run was trained on a text, not on shards such as {given.dataset_dir}.", "Leave dataset_dir out."
            )
        text = recorded_text(record, given.input_file if given else ())
        loader = GPTDataLoader(config, tokenizer, text=text, options=options)
    else:
        folder = (given.dataset_dir if given else None) or record.dataset_dir
        loader = GPTDataLoader(config, tokenizer, dataset_dir=folder, options=options)
        if loader.record.fingerprint != record.fingerprint:
            raise ConflictError(
                f"The shards in {folder} are not those of this run: their fingerprint is "
                f"{loader.record.fingerprint[:12]}… instead of {record.fingerprint[:12]}….",
                "Give the recorded ones by --dataset-dir, or train a new model on these.",
            )
    loader.record = loader.record.model_copy(update={"bpe_vocab_size": record.bpe_vocab_size})
    return loader


def recorded_text(record: DataRecord, given: tuple[str, ...]) -> Text:
    """A recorded text, read again from where the record says, or from `given`, and checked.

    Raises:
        InputError: it cannot be found.
        ConflictError: it is another text than the recorded one.
    """
    paths = given or tuple(s.path for s in record.sources)
    if not given and (not paths or STDIN in paths):
        raise InputError(
            "The text of this run came from standard input or from memory and cannot be read again.",
            "Give the same text by --input-file.",
        )
    text = read_text([p for p in paths if not is_sample(p)])
    if text.fingerprint != record.fingerprint:
        raise ConflictError(
            f"The text of {', '.join(s.path for s in text.sources)} is not the one that this run was trained on: "
            f"its SHA-256 is {text.fingerprint[:12]}… instead of {record.fingerprint[:12]}….",
            "Give the recorded text by --input-file, or train a new model on the changed one.",
        )
    return text


def phase_records(data: RunData, settings: DataConfig) -> tuple[PhaseRecord, ...]:
    """What the record says of a curriculum."""
    planned = settings.curriculum.phases if settings.curriculum else ()
    return tuple(
        PhaseRecord(name=phase.name, until_iter=plan.until_iter, description=plan.description, data=phase.loader.record)
        for phase, plan in zip(data.phases, planned, strict=True)
    )


def _open_shards(
    settings: RunSettings, config: GPTConfig, base: Tokenizer | None, observer: Observer
) -> tuple[RunData, GPTConfig]:
    """The primary set, the phases and the further sets; the primary one says what the ids mean."""
    given, planned = settings.data, settings.data.curriculum.phases if settings.data.curriculum else ()
    folder = given.dataset_dir or planned[0].dataset_dir
    tokenizer = _tokenizer_of(folder, base)
    _check_kind(settings, tokenizer.kind, folder)
    config = fitting_vocab_size(tokenizer, config, settings, fixed=base is not None)
    options = loader_options(given, settings.training)

    def load(path: str) -> GPTDataLoader:
        with observer.busy(f"Opening {path} and checking its ids"):
            return GPTDataLoader(config, tokenizer, dataset_dir=path, options=options)

    loaders = {path: load(path) for path in dict.fromkeys([folder, *(p.dataset_dir for p in planned)])}
    starts = [0, *(p.until_iter or 0 for p in planned[:-1])]
    phases = tuple(Phase(p.name, start, loaders[p.dataset_dir]) for p, start in zip(planned, starts, strict=False))
    return RunData(loaders[folder], _eval_sets(given, loaders[folder], observer), phases), config


def _check_kind(settings: RunSettings, kind: str, source: str) -> None:
    """Refuse a tokenization that was asked for where another is settled already; that of a preset is none."""
    asked = settings.given.get("tokenization")
    if asked and asked != f"preset {settings.preset}" and kind != settings.data.tokenization:
        raise ConfigError(
            f"tokenization {settings.data.tokenization} was asked for, but {source} was made with {kind}.",
            "Leave tokenization out.",
        )


def _tokenizer_of(folder: str, base: Tokenizer | None) -> Tokenizer:
    """What the ids of a folder mean: its own tokenizer, or the base model's if that knows more special tokens."""
    own = open_shards(folder).tokenizer
    return base if base is not None and not own.extends(base.file) else Tokenizer(own)


def _eval_sets(given: DataConfig, primary: GPTDataLoader, observer: Observer) -> Mapping[str, GPTDataLoader]:
    """The further sets that a call names, with the primary set's tokenizer."""
    sets = {}
    for name, path in given.every_eval_set.items():
        with observer.busy(f"Opening the eval set {name}"):
            sets[name] = _eval_loader(path, primary)
    return sets


def _eval_loader(path: str, primary: GPTDataLoader) -> GPTDataLoader:
    options = replace(primary.options, eval_only=True, sampling=None)
    if not Path(path).expanduser().is_dir():
        options = replace(options, use_loss_mask=False)
        return GPTDataLoader(primary.config, primary.tokenizer, input_file=path, options=options)
    masked = options.use_loss_mask and open_shards(path, eval_only=True).splits["val"].masked
    options = replace(options, use_loss_mask=masked)
    return GPTDataLoader(primary.config, primary.tokenizer, dataset_dir=path, options=options)
