"""`mypt evaluate`: measures any bundle on a whole text or on shards."""

from collections.abc import Callable
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager, Loaded, weights_sha256
from mypt.data.documents import Corpus, shard_corpus, text_corpus
from mypt.model.network import Network
from mypt.schema.files.evaluation import TextEvaluation
from mypt.schema.settings.evaluation import EvaluateConfig
from mypt.train.device.devices import resolve_device
from mypt.train.evaluation.rolling import measure_documents


def evaluate_text(
    name: str, out_dir: Path, config: EvaluateConfig, device: str, progress: Callable[[str], None] = lambda _: None
) -> TextEvaluation:
    """Measure a bundle on a whole text, or on a split of shards.

    Args:
        name: of the bundle, or its path.
        out_dir: folder of all bundles.
        config: what to measure on.
        device: where to compute.
        progress: told now and then, in words, how far it is.

    Raises:
        UsageError: there is no such bundle, or the text cannot be read or has what the tokenizer does not know.
        BundleError: the bundle is damaged.
        DivergedError: the loss is not finite.
    """
    manager = CheckpointManager.find(name, out_dir)
    loaded = manager.load(resolve_device(device))
    corpus = _corpus(loaded, config)
    (prefix,) = loaded.tokenizer.prompt_ids("", loaded.state.start_token)
    of = f" of {corpus.tokens:,}" if corpus.tokens else ""
    found = measure_documents(
        loaded.model, corpus.documents, prefix, lambda done: progress(f"Evaluating: {done:,}{of} tokens")
    )
    return TextEvaluation(
        bundle=manager.name, step=loaded.state.step, weights_sha256=weights_sha256(loaded.model), text=corpus.name,
        split=config.split if config.dataset_dir is not None else None, sha256=corpus.sha256, loss=found.loss,
        se=found.se, bpb=found.bpb, perplexity=found.perplexity, tokens=found.tokens, text_bytes=found.text_bytes,
        windows=found.windows, documents=found.documents,
    )  # fmt: skip


def _corpus(loaded: Loaded[Network], config: EvaluateConfig) -> Corpus:
    if config.dataset_dir is None:
        return text_corpus(config.input_file, loaded.tokenizer, config.text_field)
    return shard_corpus(config.dataset_dir, config.split, loaded.tokenizer, loaded.model.config.vocab_size)
