"""What pydantic found wrong, in lines for people."""

import json
from collections.abc import Mapping

from pydantic import ValidationError


def explain_validation(error: ValidationError, given: Mapping[str, str] | None = None) -> list[str]:
    """Pydantic's findings, one readable line each: `source: field value: what is wrong`."""
    lines: dict[tuple[str, str], str] = {}
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else ""
        source = f"{(given or {}).get(field, '')}: ".removeprefix(": ")
        message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if item["type"] == "string_pattern_mismatch" and field == "device":
            message = "must be auto, cpu, mps, cuda or cuda:N"
        if item["type"] == "extra_forbidden":
            message = "is not a setting"
        value = f"{field} {_shown(item['input'])}: " if field else ""
        lines.setdefault((field, "" if field else message), f"{source}{value}{message}.")
    return list(lines.values())


def _shown(value: object) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value, default=str)
