"""The git commit of the working folder, asked for without running anything that the folder's own settings name."""

import os
import shutil
import subprocess

_INERT = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "protocol.allow": "never"}
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
_CONVERTERS = r"^filter\..*\.(clean|smudge|process|required)$"
"""Programs through which git passes a file before it compares it; a folder that came from elsewhere may name any."""
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")


def git_commit() -> str | None:
    """The commit, with `+` if files of the folder were changed, or if git cannot tell; None outside git."""
    if shutil.which("git") is None:
        return None
    try:
        head = _git(_INERT, "rev-parse", "HEAD").strip()
        converters = _git(_INERT, "config", "--null", "--name-only", "--get-regexp", _CONVERTERS, may_fail=True)
        names = list(filter(None, converters.split("\0")))
        tellable = not any("=" in name for name in names)  # the one sign that no name on git's command line can have
        unfiltered = {n: "false" if n.endswith("required") else "" for n in names}
        changed = not tellable or _git(_INERT | unfiltered, *_STATUS)
    except (subprocess.SubprocessError, OSError, UnicodeDecodeError):
        return None
    return head + ("+" if changed else "")


def _git(settings: dict[str, str], *call: str, may_fail: bool = False) -> str:
    words = ["git", *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")), *call]
    env = {**os.environ, **_ENVIRONMENT}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=5, check=not may_fail, env=env)
    return done.stdout
