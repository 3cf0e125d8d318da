"""Which presets other programs can open: all but tiny, whatever of biases and tied weights is asked for."""

import itertools

import pytest

from mypt.errors import UsageError
from mypt.exchange.homes import home_of
from mypt.schema.resolve import resolve_settings
from mypt.schema.settings.export import Format
from mypt.schema.settings.presets import PRESETS

FORMATS: tuple[Format, ...] = ("hf", "gguf")
WITH_HOME = [name for name in PRESETS if name != "tiny"]


@pytest.mark.parametrize(("name", "form"), list(itertools.product(WITH_HOME, FORMATS)))
@pytest.mark.parametrize(("bias", "tied"), list(itertools.product((False, True), (False, True))))
def test_every_preset_but_tiny_has_a_home(name: str, form: Format, bias: bool, tied: bool) -> None:
    family = name.split("-")[0].replace("small", "llama")
    assert home_of(resolve_settings({}, preset=name).model, form).family == family
    assert home_of(resolve_settings({"bias": bias, "tie_weights": tied}, preset=name).model, form).family == family


def test_tiny_has_none_and_says_so() -> None:
    tiny = resolve_settings({}, preset="tiny").model
    for form in FORMATS:
        with pytest.raises(UsageError, match="token_conv 1"):
            home_of(tiny, form)
        assert home_of(resolve_settings({"token_conv": 1}, preset="tiny").model, form).family == "stablelm"
    assert "--with-code" in PRESETS["tiny"].help and "GGUF" in PRESETS["tiny"].help
    assert not any("--with-code" in PRESETS[name].help for name in WITH_HOME)
