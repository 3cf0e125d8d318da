"""From settings to the data of a new run: texts or shards, phases and further sets."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from mypt.data.integrity import sealed
from mypt.data.loader import GPTDataLoader, LoaderOptions
from mypt.data.shards import tokenizer_of
from mypt.data.text import Text, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConfigError, InputError
from mypt.regular import expanded
from mypt.schema.files.state import PhaseRecord
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig
from mypt.schema.settings.run import RunSettings
from mypt.schema.settings.training import TrainingConfig
from mypt.train.observer import Observer
from mypt.train.run_data import Phase, RunData


def _carriage_returns(paths: Sequence[str]) -> str:
    """The sentence on line ends that are two characters, with the call that makes them one."""
    path = next(iter(paths), "FILE")
    return (
        "Lines of the text end in \\r\\n, as on Windows, so the model learns a token \\r at the end of each. "
        f"To leave it out: tr -d '\\r' < {shlex.quote(path)} > unix.txt, and train on unix.txt."
    )


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
    _check_names(settings.data)
    if settings.data.dataset_dir or settings.data.curriculum:
        return _open_shards(settings, config, base, observer)
    if settings.data.use_loss_mask:
        raise ConfigError(
            "use_loss_mask needs a dataset_dir, because a text has no loss masks.",
            "Leave it out, or make shards of conversations with `mypt prepare --chat`.",
        )
    options = loader_options(settings.data, settings.training)
    with observer.busy("Reading the text"):
        text = read_text(settings.data.input_file, settings.data.text_field)
    if not settings.data.input_file:
        observer.notice(f"No --input-file was given, so this trains on the {text.sources[0].path}.")
    if base:
        _check_kind(settings, base.kind, str(settings.training.init_from_model))
    kind = base.kind if base else settings.data.tokenization
    with observer.busy(f"Tokenizing {len(text.content):,} characters ({kind})"):
        tokenizer = base or build_tokenizer(settings.data, text)
        if base is None and kind == "char" and "\r\n" in text.content:
            observer.notice(_carriage_returns(settings.data.input_file))
        config = fitting_vocab_size(tokenizer, config, settings, fixed=base is not None)
        loader = GPTDataLoader(config, tokenizer, text=text, options=options)
    if base is None and tokenizer.kind == "bpe":
        loader.record = loader.record.model_copy(update={"bpe_vocab_size": settings.data.bpe_vocab_size})
    return RunData(loader, _eval_sets(settings.data, loader, observer)), config


def loader_options(data: DataConfig, training: TrainingConfig) -> LoaderOptions:
    """How the settings want the data to be read."""
    return LoaderOptions(
        seed=training.seed, sampling=data.sampling, use_loss_mask=data.use_loss_mask, text_field=data.text_field
    )


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
            f"Train the model that this starts from again, with --vocab-size {tokenizer.vocab_size} or on shards of "
            "`mypt prepare`, whose vocabulary has every special token; or train a new one without --init-from-model."
            if fixed
            else "Leave vocab_size out, or give at least that many.",
        )
    return config.model_copy(update={"vocab_size": size})


def phase_records(data: RunData, settings: DataConfig) -> tuple[PhaseRecord, ...]:
    """What the record says of a curriculum."""
    return tuple(
        PhaseRecord(name=phase.name, until_iter=plan.until_iter, description=plan.description, data=phase.loader.record)
        for phase, plan in zip(data.phases, settings.phases, strict=True)
    )


def _open_shards(
    settings: RunSettings, config: GPTConfig, base: Tokenizer | None, observer: Observer
) -> tuple[RunData, GPTConfig]:
    """The primary set, the phases and the further sets; the primary one says what the ids mean."""
    given, planned = settings.data, settings.data.phases
    folder = given.dataset_dir or planned[0].dataset_dir
    folders = list(dict.fromkeys([folder, *(p.dataset_dir for p in planned)]))
    tokenizer = _tokenizer_of(folders, base, config.vocab_size)
    _check_kind(settings, tokenizer.kind, folder)
    config = fitting_vocab_size(tokenizer, config, settings, fixed=base is not None)
    options = loader_options(given, settings.training)

    def load(path: str) -> GPTDataLoader:
        with observer.busy(f"Opening {path} and checking its ids"):
            return _sealed(GPTDataLoader(config, tokenizer, dataset_dir=path, options=options))

    loaders = {path: load(path) for path in folders}
    starts = [0, *(p.until_iter or 0 for p in planned[:-1])]
    phases = tuple(Phase(p.name, start, loaders[p.dataset_dir]) for p, start in zip(planned, starts, strict=False))
    return RunData(loaders[folder], _eval_sets(given, loaders[folder], observer), phases), config


def _check_names(given: DataConfig) -> None:
    """Refuse what only makes sense for a recorded run: to leave out a set, to move a phase that no curriculum has."""
    left_out = [name for name, path in given.every_eval_set.items() if not path]
    if left_out:
        raise ConfigError(
            f"The eval set {left_out[0]} has no path, and a new run has none to leave out.", "Write it as NAME=PATH."
        )
    if given.phase_dirs and given.curriculum is None:
        raise ConfigError(
            f"The phase {next(iter(given.phase_dirs))} has a folder, but there is no curriculum.",
            "Give the phases in a config file by --config-file.",
        )


def _check_kind(settings: RunSettings, kind: str, source: str) -> None:
    """Refuse a tokenization that was asked for where another is settled already; that of a preset is none."""
    asked = settings.given.get("tokenization")
    if asked and asked != f"preset {settings.preset}" and kind != settings.data.tokenization:
        raise ConfigError(
            f"tokenization {settings.data.tokenization} was asked for, but {source} was made with {kind}.",
            "Leave tokenization out.",
        )


def _tokenizer_of(folders: Sequence[str], base: Tokenizer | None, rows: int) -> Tokenizer:
    """What the ids of all folders mean: the tokenizer, of theirs and the base model's, with the most special tokens.

    A base model without rows for all of those goes on with its own where the data has none of them, as the vocabularies
    of imported models have no room to spare; the loader checks each id. It talks as the last that has conversations.
    """
    own = [base.file] if base else []
    known = [*own, *map(tokenizer_of, folders)]
    chosen = known[0]  # which the loader refuses where the ids of a folder mean something else
    for file in known[1:]:
        spare = own and file.vocab_size > rows and file.template is None and END_OF_TEXT in chosen.special_ids
        chosen = file if file.extends(chosen) and not spare else chosen
    talking = [template for file in known if (template := file.template)]
    stored = {"chat_template": talking[-1]} if talking and chosen.template != talking[-1] else {}
    return Tokenizer(chosen.model_copy(update=stored))


def open_eval_set(path: str, config: GPTConfig, tokenizer: Tokenizer, options: LoaderOptions) -> GPTDataLoader:
    """Open a further set that a call names: a folder of shards, or a text as a whole.

    Args:
        path: of it.
        config: of the run, as `tokenizer`.
        tokenizer: what its ids mean.
        options: of the primary set; masks are used where the set has them, unless they are not wanted at all.

    Raises:
        UsageError: it is unusable.
    """
    wanted = None if options.use_loss_mask else options.use_loss_mask
    options = replace(options, eval_only=True, sampling=None, use_loss_mask=wanted)
    if not expanded(path).is_dir():
        return GPTDataLoader(config, tokenizer, input_file=path, options=options)
    return _sealed(GPTDataLoader(config, tokenizer, dataset_dir=path, options=options))


def _sealed(loader: GPTDataLoader) -> GPTDataLoader:
    loader.record = sealed(loader.record)
    return loader


def _eval_sets(given: DataConfig, primary: GPTDataLoader, observer: Observer) -> dict[str, GPTDataLoader]:
    """The further sets that a call names, with the primary set's tokenizer."""
    sets = {}
    for name, path in given.every_eval_set.items():
        with observer.busy(f"Opening the eval set {name}"):
            try:
                sets[name] = open_eval_set(path, primary.config, primary.tokenizer, primary.options)
            except InputError as error:
                raise InputError(f"The eval set {name} ({path}): {error.what}", error.todo, error.details) from error
    return sets
