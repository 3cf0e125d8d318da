"""Finds the files that a word of the call means, and says what it leaves out of a folder."""

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mypt.errors import InputError
from mypt.regular import expanded

SHOWN = 3
"""Names that are told of each reason."""
_BACKUP = re.compile(r".*~|#.*#|.*\.(bak|orig)", re.IGNORECASE)
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|changelog|contributing|code_of_conduct|citation|notice|dataset_infos?|dataset_dict)"
    r"([._-][a-z]{2}([_-][a-z]{2})?)?",
    re.IGNORECASE,
)
"""Names, without suffix, of files about the others, also in some language, such as README.fr.md."""


@dataclass
class Found:
    """The files that a word means, in order, and what was left out, by reason.

    Attributes:
        word: the word.
        files: absolute paths.
        named: whether the word names a single file, which is taken whatever it is.
    """

    word: str
    files: list[Path] = field(default_factory=list)
    named: bool = False
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        """Note that a file or a folder was left out."""
        self.left_out.setdefault(reason, []).append(name)

    @property
    def told(self) -> str:
        """What was left out, in one phrase; empty if nothing was."""
        return ", ".join(_phrase(reason, names) for reason, names in self.left_out.items())


def find_files(word: str, is_known: Callable[[Path], bool], without: Path | None = None) -> Found:
    """The files that a word means: a file, all of a folder that can be texts, or those that a pattern fits.

    Args:
        word: the word.
        is_known: whether the name of a file in a folder says that it is a text.
        without: a folder to keep out of.
    """
    found, path = Found(word), expanded(word)
    if path.exists() and not path.is_dir():
        return Found(word, [path.absolute()], named=True)
    matches = [str(path)] if path.exists() else glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    texts: list[Path] = []
    for match in map(Path, sorted(matches)):
        if match.is_dir():
            texts += _walk(match, is_known, without, found)
        elif match.exists():
            texts.append(match)
        else:
            found.leave_out("links that lead nowhere", match.name)
    if any(not _is_about(text) for text in texts):
        kept = [text for text in texts if not _is_about(text) or str(text) in matches]
        for text in sorted(set(texts) - set(kept)):
            found.leave_out("about the others", text.name)
        texts = kept
    found.files = sorted({path.absolute() for path in once(texts) if _has_content(path, found)})
    return found


def unusable(problems: list[str], todo: str) -> InputError:
    """The error for inputs, of which each is told with its fault."""
    count = f"{len(problems)} inputs" if len(problems) > 1 else "1 input"
    return InputError(f"{count} cannot be used.", todo, problems)


def _walk(top: Path, is_known: Callable[[Path], bool], without: Path | None, found: Found) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, each folder once, whatever links lead to it."""
    folders, links = [top], list[Path]()
    seen = set(top.resolve().parents) | ({without.resolve()} if without else set())
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            paths = sorted(folder.iterdir())
        except OSError:
            found.leave_out("that may not be looked into", folder.name)
            continue
        for path in paths:
            if reason := _unwanted(path, is_known):
                found.leave_out(reason, path.name)
            elif path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            else:
                yield path


def _unwanted(path: Path, is_known: Callable[[Path], bool]) -> str | None:
    """Why something in a folder is no input; None if it may be one."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return None
    if _BACKUP.fullmatch(path.name):
        return "backups"
    if not is_known(path):
        return "of other kinds"
    if not path.exists():
        return "links that lead nowhere"
    return None if path.is_file() else "devices, pipes or sockets"


def _is_about(path: Path) -> bool:
    return _ABOUT.fullmatch(path.stem) is not None


def _has_content(path: Path, found: Found) -> bool:
    if path.is_file() and path.stat().st_size == 0:
        found.leave_out("empty", path.name)
        return False
    return True


def once(paths: Iterable[Path]) -> Iterator[Path]:
    """Leave out links to files that are there by themselves, or by another link."""
    seen = set[Path]()
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def _phrase(reason: str, names: list[str]) -> str:
    if reason == "of other kinds":
        suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
        shown = [suffix for suffix, _ in suffixes.most_common(SHOWN)]
        return f"{len(names)} of other kinds ({', '.join(shown)}{', …' if len(suffixes) > SHOWN else ''})"
    if reason == "about the others" and len(names) <= SHOWN:
        return ", ".join(names)
    return f"{len(names)} {reason} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
