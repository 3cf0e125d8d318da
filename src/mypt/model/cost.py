"""Parameter counts, FLOPs, memory and disk space of a model, computed from its config."""

from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig

CPU_TOKENS = 1024
"""Tokens processed at once on a CPU. On 2 cores at the default shape 1024 and 2048 take about the same time, all
8192 take 1.5x as long."""
CHUNK_FROM_VOCAB = 4096
"""Vocabulary size from which the loss is computed in chunks of tokens."""
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def mlp_hidden(config: GPTConfig) -> int:
    """Hidden size of the feed-forward layer, as set or by rule.

    GELU: 4 x n_embd (GPT-2). SwiGLU: 8/3 x n_embd, rounded up to a multiple of 64, so that its three
    matrices have about as many parameters as the two of GELU (Touvron et al. 2023, section 2.2).
    """
    if config.mlp_hidden is not None:
        return config.mlp_hidden
    if config.mlp_type == "gelu":
        return 4 * config.n_embd
    return -(-8 * config.n_embd // (3 * 64)) * 64


def parameters_by_part(config: GPTConfig) -> dict[str, int]:
    """Exact parameter count of each part of the network; shared weights count once."""
    C, V, L = config.n_embd, config.vocab_size, config.n_layer
    hidden, bias = mlp_hidden(config), int(config.bias)
    qkv = sum(config.qkv_rows)
    attention = qkv * C + C * C + bias * (qkv + C)
    if config.mlp_type == "gelu":
        mlp = 2 * C * hidden + bias * (hidden + C)
    else:
        mlp = 3 * C * hidden + bias * (2 * hidden + C)
    norm = C + (C if config.bias and config.norm_type == "layernorm" else 0)
    return {
        "token embedding": V * C,
        "position embedding": config.block_size * C if config.pos_encoding == "learned" else 0,
        "token convolution": (config.token_conv - 1) * C,
        "attention": L * attention,
        "feed-forward": L * mlp,
        "norms": (2 * L + 1) * norm,
        "output layer": 0 if config.tie_weights else V * C,
    }


def parameter_count(config: GPTConfig) -> int:
    """Exact parameter count of the model."""
    return sum(parameters_by_part(config).values())


def flops_per_token(config: GPTConfig) -> int:
    """Floating point operations per training token, forward and backward.

    6 per parameter of a matrix product (embedding lookups are none), plus 12 x n_layer x n_embd x block_size
    for attention (Chowdhery et al. 2022, PaLM, appendix B).
    """
    parts = parameters_by_part(config)
    in_matmuls = parameter_count(config) - parts["position embedding"] - parts["token convolution"]
    if not config.tie_weights:
        in_matmuls -= parts["token embedding"]
    return 6 * in_matmuls + 12 * config.n_layer * config.n_embd * config.block_size


def rows_at_once(config: GPTConfig, training: TrainingConfig | None = None) -> int:
    """Sequences of a micro-batch that are processed at once, by setting or default.

    The default on a CPU keeps activations near its caches, which saves memory and time and gives the same gradient.
    It depends only on the config, so that a resume computes exactly as the original run.
    """
    limit = CPU_TOKENS // config.block_size if config.device == "cpu" else config.batch_size
    if training is not None and training.rows_at_once is not None:
        limit = training.rows_at_once
    return min(config.batch_size, max(1, limit))


def loss_chunk(device: str) -> int:
    """Tokens in a chunk of the loss: on a CPU 512 are as fast as the matrix product alone; a GPU wants larger ones."""
    return 4096 if device.startswith("cuda") else 512


def training_memory(
    config: GPTConfig, training: TrainingConfig | None = None, processes: int = 1, shards: int = 1
) -> int:
    """Estimated bytes for training: weights, gradients and AdamW's moments in fp32, activations and logits.

    Activations per layer are estimated as 16 tensors of shape (B, T, C), the hidden tensors of the feed-forward layer
    and, for dropout on a CPU, the attention weights; of all layers, or of one beside what goes into each.

    Args:
        config: the architecture, and the device.
        training: the settings; None for the defaults.
        processes: that share a step.
        shards: processes that have the weights between them; 1 where each has all.
    """
    B, T, C = rows_at_once(config, training), config.block_size, config.n_embd
    per_layer = B * T * (16 * C + 3 * mlp_hidden(config))
    if config.dropout and config.device == "cpu":
        per_layer += 3 * B * config.n_head * T * T
    at_once = loss_chunk(config.device) if config.vocab_size >= CHUNK_FROM_VOCAB else B * T
    logits = 4 * min(B * T, at_once) * config.vocab_size
    held = _held_whole(config, processes) if shards == 1 else _held_in_parts(config, training, processes, shards)
    recomputed = training is not None and training.use_checkpoint
    activations = per_layer + config.n_layer * B * T * C if recomputed else config.n_layer * per_layer
    return 4 * (held + activations + logits)


def _held_whole(config: GPTConfig, processes: int) -> int:
    """Values of weights, gradients and moments; to be added up, gradients are once more in one row."""
    return (4 if processes == 1 else 5) * parameter_count(config)


def _held_in_parts(config: GPTConfig, training: TrainingConfig | None, processes: int, shards: int) -> int:
    """Values of weights, gradients and moments at the peak of a step of a process that has a part of them.

    Gradients are whole until the last pass of a step adds them up; where there is but one, it adds up layer by layer.
    Whole are, beside, two layers, one of which is being fetched, the gradient of one and the row that it is sent in,
    and what lies outside of the layers, together with its gradient.
    """
    parts, count = parameters_by_part(config), parameter_count(config)
    layers = parts["attention"] + parts["feed-forward"] + parts["norms"]
    micro_batches = 1 if training is None else -(-training.grad_accum_steps // processes)
    passes = micro_batches * -(-config.batch_size // rows_at_once(config, training))
    own = -(-count // shards)
    return 3 * own + (own if passes == 1 else count) + 4 * layers // config.n_layer + 2 * (count - layers)


def bundle_bytes(config: GPTConfig, training: TrainingConfig) -> int:
    """Bytes of one bundle with optimizer state, without its JSON files."""
    return parameter_count(config) * (_BYTES[training.save_dtype] + 8)


def disk_needed(config: GPTConfig, training: TrainingConfig) -> int:
    """Peak disk space of a run: the latest bundle, gold, one being written, and the fp16 export."""
    return 3 * bundle_bytes(config, training) + 2 * parameter_count(config) + 2 * 64 * 1024
