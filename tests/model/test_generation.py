"""Generation: what may be sampled, what ends a text, and every extreme of the settings."""

import itertools
import random
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from mypt.data.chat import stop_ids
from mypt.data.tokenizer import Tokenizer
from mypt.model.generation import before_first, generate, generate_text, sample_token
from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.generation import GenerationConfig

LOGITS = torch.tensor([1.0, 2.0, 3.5, -1e30, 2.5, 1e4])
TEMPERATURES = (0.0, 5e-324, 1e-300, 1e-40, 1.17e-38, 2e-38, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e38, 1e39, 1e308)
TOP_K = (None, 1, 3, 10**18)
TOP_P = (None, 5e-324, 1e-300, 1e-40, 1e-9, 0.5, 1 - 1e-16, 1.0)


class Scripted(Network):
    """A network whose likeliest next tokens are written down, whatever it reads."""

    def __init__(self, script: list[int], vocab_size: int) -> None:
        super().__init__(GPTConfig(n_embd=8, n_head=1, n_layer=1, block_size=8, vocab_size=vocab_size, device="cpu"))
        self.script = iter(script)

    def next_logits(self, tokens: Tensor, cache: object = None) -> Tensor:
        del tokens, cache
        return 100.0 * one_hot(torch.tensor([next(self.script)]), self.config.vocab_size)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_every_extreme_of_the_settings_gives_a_token_that_may_be_sampled(temperature: float) -> None:
    odd = [torch.zeros(5), torch.tensor([3.4e38, -3.4e38, 0.0]), torch.tensor([7.0])]
    for top_k, top_p, logits in itertools.product(TOP_K, TOP_P, [LOGITS, -LOGITS, *odd]):
        config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)
        rng = torch.Generator().manual_seed(1)
        tokens = {sample_token(logits.clone(), config, rng) for _ in range(4)}
        assert tokens <= set(range(len(logits)))
        sharp = temperature < 1e-3 or ((top_k == 1 or (top_p or 1) < 1e-9) and temperature <= 1e3)
        if sharp and logits.any() and len(logits) > 1:  # beyond that fp32 has no difference between the tokens
            assert tokens == {int(logits.argmax())}


@pytest.mark.parametrize("vocab_size", [3, 40, 64])
def test_ids_beyond_the_tokenizer_are_never_sampled(vocab_size: int) -> None:
    config = GPTConfig(n_embd=8, n_head=1, n_layer=1, block_size=8, vocab_size=64, device="cpu")
    settings = GenerationConfig(temperature=1e9, max_new_tokens=300)
    tokens = set(generate(Network(config), [0], settings, vocab_size=vocab_size))
    assert max(tokens) == vocab_size - 1


CHAT = Tokenizer(Tokenizer.char("ab").file.with_special().with_template())
END, TURN = (CHAT.file.special_ids[name] for name in ("<|endoftext|>", "<|end|>"))
USER = CHAT.file.special_ids["<|user|>"]


@pytest.mark.parametrize("end", [END, TURN])
@pytest.mark.parametrize("going_on", [False, True])
def test_a_text_ends_at_the_end_of_a_text_or_of_an_answer_unless_told_otherwise(end: int, going_on: bool) -> None:
    model = Scripted([0, USER, 1, end, 0, 1], CHAT.vocab_size + 3)
    settings = GenerationConfig(temperature=0, max_new_tokens=6, ignore_end=going_on)
    text = "".join(generate_text(model, CHAT, [0], settings))
    assert text == ("a<|user|>b" + (f"{CHAT.decode([end])}ab" if going_on else ""))


def test_a_border_in_a_prompt_is_a_token() -> None:
    assert CHAT.prompt_ids("a<|endoftext|>b") == [0, END, 1] and CHAT.prompt_ids("", 1) == [1]


def test_a_text_without_special_tokens_ends_by_its_length_alone() -> None:
    plain = Tokenizer.char("ab")
    assert not stop_ids(plain) and stop_ids(Tokenizer.gpt2()) == {50256}
    model = Scripted([0, 1] * 4, plain.vocab_size)
    assert "".join(generate_text(model, plain, [0], GenerationConfig(temperature=0, max_new_tokens=7))) == "abababa"


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.randoms())
def test_a_text_ends_before_the_first_stop_however_it_is_cut(
    text: str, stops: list[str], chance: random.Random
) -> None:
    shortest = next((n for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stops)), None)
    expected = text
    if shortest is not None:
        expected = text[: shortest - max(len(s) for s in stops if text[:shortest].endswith(s))]
    cuts = sorted(chance.sample(range(len(text) + 1), chance.randint(0, len(text))))
    for bounds in ([0, *cuts, len(text)], list(range(len(text) + 1)), [0, len(text)]):
        pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
        streamed = list(before_first(pieces, stops))
        assert "".join(streamed) == expected and not any(stop in expected for stop in stops)


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_no_more_is_held_back_than_what_may_begin_a_stop(text: str, stops: list[str]) -> None:
    read: list[str] = []

    def pieces() -> Iterator[str]:
        for char in text:
            read.append(char)
            yield char

    shown = ""
    for piece in before_first(pieces(), stops):
        shown += piece
        held = "".join(read)[len(shown) :]
        ended = any(stop in "".join(read) for stop in stops)
        assert ended or len(read) == len(text) or not held or any(stop.startswith(held) for stop in stops)


def test_what_the_reader_leaves_is_not_computed() -> None:
    tokenizer = Tokenizer.char("ab")
    model = Scripted([0, 1, 0, 1], tokenizer.vocab_size)
    settings = GenerationConfig(temperature=0, max_new_tokens=4, stop=("ab",))
    assert "".join(generate_text(model, tokenizer, [0], settings)) == ""
    assert list(model.script) == [0, 1]
