"""llama.cpp, by the package `xllamacpp`: what it makes of a GGUF file."""

import http.client
import json
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from mypt.errors import ExportError


def is_installed() -> bool:
    """Whether llama.cpp can be asked."""
    return find_spec("xllamacpp") is not None


class LlamaCpp:
    """A GGUF file that is loaded by llama.cpp, on one thread, with keys and values in fp32.

    Raises:
        ExportError: llama.cpp does not load it.
    """

    def __init__(self, path: Path, context: int) -> None:
        import xllamacpp as llama

        settings = llama.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.warmup, settings.fit_params, settings.verbosity = context, False, False, 0
        settings.cpuparams.n_threads, settings.n_gpu_layers = 1, 0
        settings.cache_type_k = settings.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server = llama.Server(settings)
        except RuntimeError as error:
            raise ExportError(f"llama.cpp does not load {path}: {error}.", "Please report this as a bug.") from error
        self._place = urlsplit(self._server.listening_address).netloc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._server

    def token_ids(self, text: str, special: bool = False) -> list[int]:
        """The tokens of a text, in which special tokens are told if wanted."""
        ask = {"content": text, "add_special": False, "parse_special": special}
        found: list[int] = self._post("/tokenize", ask)["tokens"]
        return found

    def written(self, messages: Sequence[dict[str, Any]]) -> str:
        """A conversation in the form of OpenAI's as the text that the chat template makes of it."""
        text: str = self._post("/apply-template", {"messages": list(messages)})["prompt"]
        return text

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """The most likely token after a prompt, and so on; one that ends a text is the last."""
        found: list[int] = self._complete(prompt, tokens, 0)["tokens"]
        return found

    def log_probabilities(self, prompt: Sequence[int], likeliest: int) -> dict[int, float]:
        """Those of the likeliest tokens after a prompt; none where the first of them is but a part of a character."""
        steps = self._complete(prompt, 1, likeliest).get("completion_probabilities", [])
        return {top["id"]: top["logprob"] for step in steps for top in step["top_logprobs"]}

    def _complete(self, prompt: Sequence[int], tokens: int, likeliest: int) -> dict[str, Any]:
        ask = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0.0, "n_probs": likeliest,
               "return_tokens": True, "cache_prompt": False}  # fmt: skip
        return self._post("/completion", ask)

    def _post(self, path: str, ask: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(ask).encode()
        # A connection for each question: the server closes one that waits for seconds while mypt computes.
        with closing(http.client.HTTPConnection(self._place)) as connection:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise ExportError(f"llama.cpp answers: {answer['error']['message']}.", "Please report this as a bug.")
        return answer
