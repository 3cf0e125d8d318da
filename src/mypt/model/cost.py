"""What a model costs, from its config alone: parameters, work and memory. Exact where it says so."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only counts parameters needs no model
    from mypt.schema.settings.config import GPTConfig
    from mypt.schema.settings.training import TrainingConfig

CPU_TOKENS = 1024
"""Measured on 2 cores at the default shape: 1024 and 2048 take about the same time, all 8192 half as much again."""
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def mlp_hidden(config: "GPTConfig") -> int:
    """Hidden channels of the feed-forward layer.

    GELU: 4 x n_embd (GPT-2). SwiGLU: 8/3 x n_embd, rounded up to a multiple of 64, so that its three
    matrices hold about as many parameters as the two of GELU (Touvron et al. 2023, section 2.2).
    """
    if config.mlp_type == "gelu":
        return 4 * config.n_embd
    return -(-8 * config.n_embd // (3 * 64)) * 64


def parameters_by_part(config: "GPTConfig") -> dict[str, int]:
    """Parameters of each part of the network, exact; shared weights count once."""
    C, V, L = config.n_embd, config.vocab_size, config.n_layer
    hidden, bias = mlp_hidden(config), int(config.bias)
    attention = 4 * C * C + bias * 4 * C
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


def parameter_count(config: "GPTConfig") -> int:
    """All parameters of the model, exact."""
    return sum(parameters_by_part(config).values())


def flops_per_token(config: "GPTConfig") -> int:
    """Floating point operations to train on one token, forward and backward.

    6 for each parameter that multiplies (embedding look-ups do not), and 12 x n_layer x n_embd x block_size
    for attention (Chowdhery et al. 2022, PaLM, appendix B).
    """
    parts = parameters_by_part(config)
    multiplying = parameter_count(config) - parts["position embedding"] - parts["token convolution"]
    if not config.tie_weights:
        multiplying -= parts["token embedding"]
    return 6 * multiplying + 12 * config.n_layer * config.n_embd * config.block_size


def rows_at_once(config: "GPTConfig", training: "TrainingConfig | None" = None) -> int:
    """Windows of a micro-batch that go through the model together, where the settings do not say.

    On a CPU so few that their activations stay near its caches; the gradient is that of the whole, in less memory
    and less time. It follows from the config alone, so that a resume computes as the run before it did.
    """
    most = CPU_TOKENS // config.block_size if config.device == "cpu" else config.batch_size
    if training is not None and training.rows_at_once is not None:
        most = training.rows_at_once
    return min(config.batch_size, max(1, most))


def training_memory(config: "GPTConfig", training: "TrainingConfig | None" = None) -> int:
    """Bytes that training needs, estimated: weights, gradients and AdamW's moments in fp32, and activations.

    Activations are counted per token and layer as 16 channels-wide tensors, the feed-forward's hidden
    tensors and, on a CPU, the attention weights, which dropout makes torch keep there; then the logits.
    """
    B, T, C = rows_at_once(config, training), config.block_size, config.n_embd
    per_layer = B * T * (16 * C + 3 * mlp_hidden(config))
    if config.dropout and config.device == "cpu":
        per_layer += 3 * B * config.n_head * T * T
    logits = 4 * min(B * T, 512) * config.vocab_size if config.vocab_size >= 4096 else 4 * B * T * config.vocab_size
    return 4 * (4 * parameter_count(config) + config.n_layer * per_layer + logits)


def bundle_bytes(config: "GPTConfig", training: "TrainingConfig") -> int:
    """Bytes of one bundle with optimizer state, without the few KB of JSON."""
    return parameter_count(config) * (_BYTES[training.save_dtype] + 8)


def disk_needed(config: "GPTConfig", training: "TrainingConfig") -> int:
    """Bytes that a run needs on disk at its peak: the last bundle, gold, one being written, and the fp16 export."""
    return 3 * bundle_bytes(config, training) + 2 * parameter_count(config) + 2 * 64 * 1024
