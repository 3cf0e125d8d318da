"""mypt's network as a class of transformers, which a folder with code imports; never imported by mypt itself."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig


class MyptConfig(PretrainedConfig):
    """config.json of a folder with code.

    Args:
        architecture: the config of mypt.
    """

    model_type = "mypt"

    def __init__(self, architecture: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.architecture = architecture or {}
        super().__init__(**kwargs)


class MyptForCausalLM(PreTrainedModel, GenerationMixin):
    """A network of mypt; it keeps no cache, so generation computes every token again."""

    config_class = MyptConfig
    base_model_prefix = "network"
    _tied_weights_keys = {"network.lm_head.weight": "network.token_embedding.weight"}  # noqa: RUF012 - as transformers

    def __init__(self, config: MyptConfig) -> None:
        super().__init__(config)
        self.network = Network(GPTConfig.model_validate(config.architecture))
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> torch.nn.Module:
        """The token embedding."""
        return self.network.token_embedding

    def get_output_embeddings(self) -> torch.nn.Module:
        """The output layer."""
        return self.network.lm_head

    def prepare_inputs_for_generation(self, input_ids: Any, *_: Any, **kwargs: Any) -> dict[str, Any]:
        """The whole text at each step, since no cache holds its beginning."""
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave what the network drew."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Logits (B, T, V), and the mean loss of the labels (B, T), which are shifted here; -100 counts nothing.

        Raises:
            ValueError: a text is padded on its left.
        """
        if attention_mask is not None and bool((attention_mask[:, :1] == 0).any()):
            raise ValueError("Pad on the right: a network of mypt counts positions from the first token.")
        logits = self.network(input_ids)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(loss=loss, logits=logits)
