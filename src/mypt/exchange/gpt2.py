"""The names that GPT-2's weights have in nanoGPT and llm.c, and mypt's own."""

from collections.abc import Mapping

from torch import Tensor

_OUTSIDE = {"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "norm", "lm_head": "lm_head"}
_IN_BLOCK = {
    "ln_1": "norm_1", "ln_2": "norm_2", "attn.c_attn": "attn.qkv", "attn.c_proj": "attn.proj", "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}  # fmt: skip


def of_gpt2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by mypt's names; without an output layer it is the token embedding."""
    weights = {own_name(name): tensor for name, tensor in tensors.items()}
    weights.setdefault("lm_head.weight", weights["token_embedding.weight"])
    return weights


def own_name(name: str) -> str:
    """Mypt's name for a weight; one that is none of GPT-2's stays as it is."""
    parts = name.split(".")
    if parts[0] == "h" and len(parts) > 3:
        within = _IN_BLOCK.get(".".join(parts[2:-1]))
        return f"blocks.{parts[1]}.{within}.{parts[-1]}" if within else name
    outside = _OUTSIDE.get(parts[0]) if len(parts) == 2 else None
    return f"{outside}.{parts[1]}" if outside else name
