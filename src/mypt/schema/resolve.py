"""Resolves settings: command line over config file over preset over default."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mypt.errors import ConfigError, did_you_mean
from mypt.schema.base import Section, explain_validation, extra_of, from_json_text
from mypt.schema.json_files import read_bounded
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig
from mypt.schema.settings.output import OutputConfig
from mypt.schema.settings.presets import PRESETS
from mypt.schema.settings.run import SECTIONS, RunSettings
from mypt.schema.settings.training import TrainingConfig

LARGEST_CONFIG = 1 << 24
"""Bytes of a config file that are read."""
COMMAND_LINE = "command line"
_ANNOTATIONS = ("name", "description")
"""Keys of a config file that are not settings."""
_COMMENT = re.compile(r"_?comment(_|$)")
"""How the keys begin that people write comments under, for which JSON has no place of their own."""


def setting_names() -> list[str]:
    """Names of all settings that users can set, in section order."""
    return [n for s in SECTIONS.values() for n in s.model_fields if extra_of(s, n)["config"]]


def resolve_settings(
    command_line: Mapping[str, Any],
    config_file: Path | None = None,
    preset: str | None = None,
    architecture: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
    *,
    ignore_unknown: bool = False,
    source: str = COMMAND_LINE,
) -> RunSettings:
    """Merge the sources of settings and validate the result.

    Args:
        command_line: settings given on the command line, by field name; values may still be strings.
        config_file: flat JSON file of settings.
        preset: name of a preset.
        architecture: maps the given settings to the architecture of an existing model, used for fields that were
            not given; returns nothing by default.
        ignore_unknown: ignore unknown keys of the config file.
        source: where the given settings stand, for messages.

    Raises:
        ConfigError: settings are invalid; `details` lists every problem of every source.
    """
    from_file, repeated = _read_config_file(config_file) if config_file else ({}, [])
    described = {k: str(from_file.pop(k)) for k in _ANNOTATIONS if k in from_file}
    layers = [
        (f"preset {preset}", _preset_settings(preset) if preset else {}),
        (str(config_file), from_file),
        (source, dict(command_line)),
    ]
    merged, given, ignored, problems = _merge(layers, str(config_file) if ignore_unknown else None)
    problems = [*(f"{config_file}: {key} is given more than once; give it once." for key in repeated), *problems]
    inherited = architecture(merged)
    built: dict[str, Section] = {}
    for heading, section in SECTIONS.items():
        values = {n: v for n, v in {**inherited, **merged}.items() if n in section.model_fields}
        try:
            built[heading] = section(**values)
        except ValidationError as error:
            problems += _explain(section, values, error, given)
    if problems:
        raise wrong_settings(problems)
    data, model, training, output = (built[h] for h in SECTIONS)
    assert isinstance(data, DataConfig) and isinstance(model, GPTConfig)
    assert isinstance(training, TrainingConfig) and isinstance(output, OutputConfig)
    end = data.curriculum.end if data.curriculum else None
    if end is not None and end < training.max_iters:
        problem = f"curriculum leaves a gap: its last phase ends at {end}, before max_iters {training.max_iters}."
        raise wrong_settings([problem])
    return RunSettings(
        data=data, model=model, training=training, output=output, given=given,
        preset=preset, config_file=config_file, description=described, ignored=tuple(ignored),
    )  # fmt: skip


def _merge(
    layers: list[tuple[str, dict[str, Any]]], ignore_unknown_in: str | None
) -> tuple[dict[str, Any], dict[str, str], list[str], list[str]]:
    """Values by field name, the source of each value, ignored keys, and problems; later layers take precedence."""
    merged: dict[str, Any] = {}
    given: dict[str, str] = {}
    ignored: list[str] = []
    problems: list[str] = []
    known, aliases = setting_names(), _aliases()
    for source, layer in layers:
        spelled: dict[str, str] = {}
        for key, value in layer.items():
            name = aliases.get(key, key)
            if name not in known and source == ignore_unknown_in:
                ignored.append(key)
            elif name not in known:
                problems.append(f"{source}: {key} is not a setting{did_you_mean(key, known)}")
            elif name in spelled:
                problems.append(f"{source}: {spelled[name]} and {key} are the same setting; give one of them.")
            else:
                merged[name], given[name], spelled[name] = value, source, key
    return merged, given, ignored, problems


def _aliases() -> dict[str, str]:
    """Field name for each alias, such as `lr`."""
    return {
        option.lstrip("-").replace("-", "_"): name
        for section in SECTIONS.values()
        for name in section.model_fields
        for option in extra_of(section, name)["names"]
    }


S = TypeVar("S", bound=Section)


def resolve_section(section: type[S], values: Mapping[str, Any]) -> S:
    """Validate the settings of one section.

    Raises:
        ConfigError: settings are invalid; `details` lists every problem.
    """
    try:
        return section(**values)
    except ValidationError as error:
        problems = _explain(section, dict(values), error, {})
        raise wrong_settings(problems) from error


def wrong_settings(problems: list[str]) -> ConfigError:
    """The error that lists all invalid settings."""
    return ConfigError(
        f"{len(problems)} setting{'s are' if len(problems) > 1 else ' is'} wrong.",
        "Correct what is listed and call again; --help leads to every setting.",
        problems,
    )


def _preset_settings(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise ConfigError(
            f"There is no preset {name!r}{did_you_mean(name, PRESETS)}",
            "`mypt presets` lists them: " + ", ".join(PRESETS) + ".",
        )
    return dict(PRESETS[name].settings)


def _read_config_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of a config file without comments, and the keys that stand in it more than once."""
    todo = "Give a flat JSON object of settings, such as {\"n_layer\": 6, \"max_iters\": 1000}."  # fmt: skip
    try:
        content, repeated = from_json_text(read_bounded(path, LARGEST_CONFIG).decode("utf-8-sig"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"The config file {path} cannot be read: {reason}.", todo) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The config file {path} is not JSON: {error}.", todo) from error
    if not isinstance(content, dict):
        raise ConfigError(f"The config file {path} holds a {type(content).__name__}, not an object.", todo)
    return {key: value for key, value in content.items() if not _COMMENT.match(key)}, repeated


def _explain(
    section: type[Section], values: dict[str, Any], error: ValidationError, given: Mapping[str, str]
) -> list[str]:
    """One line for each problem; rules across fields are checked even if another field is invalid."""
    problems = explain_validation(error, given)
    invalid = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    if invalid:
        try:
            section(**{n: v for n, v in values.items() if n not in invalid})
        except ValidationError as second:
            problems += explain_validation(second, given)
    return problems
