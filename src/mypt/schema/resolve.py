"""From what was given, command line over config file over preset over default, to one `RunSettings`."""

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mypt.errors import ConfigError
from mypt.schema.base import Section, explain_validation, extra_of
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig
from mypt.schema.settings.output import OutputConfig
from mypt.schema.settings.presets import PRESETS
from mypt.schema.settings.run import SECTIONS, RunSettings
from mypt.schema.settings.training import TrainingConfig

COMMAND_LINE = "command line"
_DESCRIPTIVE = ("name", "description")


def setting_names() -> list[str]:
    """The names of all settings that a user can give, in the order of the sections."""
    return [n for s in SECTIONS.values() for n in s.model_fields if extra_of(s, n)["config"]]


def resolve_settings(
    command_line: Mapping[str, Any],
    config_file: Path | None = None,
    preset: str | None = None,
    architecture: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
    *,
    ignore_unknown: bool = False,
) -> RunSettings:
    """Merge the sources of settings and validate the result.

    Args:
        command_line: the settings given in the call, by field name; values may still be strings.
        config_file: a flat JSON file of settings.
        preset: the name of a shipped preset.
        architecture: from all that was given to the architecture of an existing model, which stands for what was
            not; by default there is none.
        ignore_unknown: leave out what the config file has and mypt does not.

    Raises:
        ConfigError: with every problem of every source in its details.
    """
    from_file = _read_config_file(config_file) if config_file else {}
    described = {k: str(from_file.pop(k)) for k in _DESCRIPTIVE if k in from_file}
    layers = [
        (f"preset {preset}", _preset_settings(preset) if preset else {}),
        (str(config_file), from_file),
        (COMMAND_LINE, dict(command_line)),
    ]
    merged, given, ignored, problems = _merge(layers, str(config_file) if ignore_unknown else None)
    inherited = architecture(merged)
    built: dict[str, Section] = {}
    for heading, section in SECTIONS.items():
        values = {n: v for n, v in {**inherited, **merged}.items() if n in section.model_fields}
        try:
            built[heading] = section(**values)
        except ValidationError as error:
            problems += _explain(section, values, error, given)
    if not problems:
        problems += _at_odds(built)
    if problems:
        raise wrong_settings(problems)
    data, model, training, output = (built[h] for h in SECTIONS)
    assert isinstance(data, DataConfig) and isinstance(model, GPTConfig)
    assert isinstance(training, TrainingConfig) and isinstance(output, OutputConfig)
    return RunSettings(
        data=data, model=model, training=training, output=output, given=given,
        preset=preset, config_file=config_file, description=described, ignored=tuple(ignored),
    )  # fmt: skip


def _merge(
    layers: list[tuple[str, dict[str, Any]]], lenient: str | None
) -> tuple[dict[str, Any], dict[str, str], list[str], list[str]]:
    """The settings of all layers, later ones over earlier ones.

    Args:
        layers: each with its source.
        lenient: the source whose unknown names are left out.

    Returns:
        Values by field name, the source of each, names that were left out, and a line on each problem.
    """
    merged: dict[str, Any] = {}
    given: dict[str, str] = {}
    ignored: list[str] = []
    problems: list[str] = []
    known, spellings = setting_names(), _other_spellings()
    for source, layer in layers:
        for key, value in layer.items():
            name = spellings.get(key, key)
            if name not in known and source == lenient:
                ignored.append(key)
            elif name not in known:
                problems.append(f"{source}: {unknown_name(key, known)}")
            elif name != key and name in layer:
                problems.append(f"{source}: {key} and {name} are the same setting; give one of them.")
            else:
                merged[name], given[name] = value, source
    return merged, given, ignored, problems


def _other_spellings() -> dict[str, str]:
    """Every short or older name of a setting, such as `lr`, and the setting that it stands for."""
    return {
        option.lstrip("-").replace("-", "_"): name
        for section in SECTIONS.values()
        for name in section.model_fields
        for option in extra_of(section, name)["names"]
    }


def _at_odds(built: Mapping[str, Section]) -> list[str]:
    """Rules that span sections."""
    data, training = built["Data"], built["Training"]
    assert isinstance(data, DataConfig) and isinstance(training, TrainingConfig)
    end = data.curriculum.end if data.curriculum else None
    if end is not None and end < training.max_iters:
        return [f"curriculum leaves a gap: its last phase ends at {end}, before max_iters {training.max_iters}."]
    return []


_Any = TypeVar("_Any", bound=Section)


def resolve_section(section: type[_Any], values: Mapping[str, Any]) -> _Any:
    """One section from the values that were given for it.

    Raises:
        ConfigError: with every problem in its details.
    """
    try:
        return section(**values)
    except ValidationError as error:
        problems = _explain(section, dict(values), error, {})
        raise wrong_settings(problems) from error


def wrong_settings(problems: list[str]) -> ConfigError:
    """The error that lists every wrong setting."""
    return ConfigError(
        f"{len(problems)} setting{'s are' if len(problems) > 1 else ' is'} wrong.",
        "Correct what is listed and call again; --help shows every setting and its bounds.",
        problems,
    )


def unknown_name(name: str, known: list[str]) -> str:
    """A sentence on an unknown setting, with the nearest known one."""
    near = get_close_matches(name, known, n=1)
    return f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ".")


def _preset_settings(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        raise ConfigError(
            f"There is no preset {name!r}" + (f"; did you mean {near[0]}?" if near else "."),
            "`mypt presets` lists them: " + ", ".join(PRESETS) + ".",
        )
    return dict(PRESETS[name].settings)


def _read_config_file(path: Path) -> dict[str, Any]:
    todo = "Give a flat JSON object of settings, such as {\"n_layer\": 6, \"max_iters\": 1000}."  # fmt: skip
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"The config file {path} cannot be read: {reason}.", todo) from error
    except ValueError as error:
        raise ConfigError(f"The config file {path} is not JSON: {error}.", todo) from error
    if not isinstance(content, dict):
        raise ConfigError(f"The config file {path} holds a {type(content).__name__}, not an object.", todo)
    return content


def _explain(
    section: type[Section], values: dict[str, Any], error: ValidationError, given: Mapping[str, str]
) -> list[str]:
    """One line for each problem; rules that span fields are checked even when another field is wrong."""
    problems = explain_validation(error, given)
    wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    if wrong:
        try:
            section(**{n: v for n, v in values.items() if n not in wrong})
        except ValidationError as second:
            problems += explain_validation(second, given)
    return problems
