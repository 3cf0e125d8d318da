"""The settings of a call; what it leaves out of the architecture is that of the bundle it continues."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mypt.checkpoint.files import read_config
from mypt.checkpoint.layout import CONFIG_FILE, bundle_path
from mypt.schema.resolve import COMMAND_LINE, resolve_settings
from mypt.schema.settings.output import OutputConfig
from mypt.schema.settings.run import RunSettings


def settings_of_call(
    name: str,
    command_line: Mapping[str, Any],
    config_file: Path | None = None,
    preset: str | None = None,
    *,
    fresh: bool = False,
    ignore_unknown: bool = False,
    source: str = COMMAND_LINE,
) -> RunSettings:
    """Resolve the settings of a call of `mypt train` or `mypt resume`.

    Args:
        name: the model.
        command_line: the settings given in the call, by field name.
        config_file: a flat JSON file of settings.
        preset: a shipped preset.
        fresh: whether a bundle of this name is to be started over.
        ignore_unknown: leave out what the config file has and mypt does not.
        source: where the given settings stand, for messages.

    Raises:
        UsageError: a setting is wrong, or the model to start from is not there.
        BundleError: its config.json cannot be read.
    """

    def architecture(given: Mapping[str, Any]) -> Mapping[str, Any]:
        place = given.get("out_dir", OutputConfig().out_dir)
        if not isinstance(place, str | Path):  # which the schema tells
            return {}
        out_dir = Path(place)
        source = name if (out_dir / name / CONFIG_FILE).is_file() and not fresh else given.get("init_from_model")
        return read_config(bundle_path(str(source), out_dir)).model_dump(exclude={"device"}) if source else {}

    return resolve_settings(
        command_line, config_file, preset, architecture, ignore_unknown=ignore_unknown, source=source
    )
