"""The pages make a site without a warning, and the files that a public project carries say what the project does."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {page.name for page in (ROOT / "docs").glob("*.md")}
needs_mkdocs = pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs mypt[docs]")


def parsed(name: str) -> dict[Any, Any]:
    """A YAML file of the project; its reader comes with the extra of the site."""
    yaml = pytest.importorskip("yaml")
    content: dict[Any, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return content


def leaves(nav: object) -> Iterator[str]:
    """The pages of a navigation, at any depth."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict | list):
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(entry)


@needs_mkdocs
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0 and not built.stderr, built.stderr
    made = {page.name for page in tmp_path.glob("*.html")}
    assert made == {page.replace(".md", ".html") for page in PAGES} | {"404.html"}
    for page in tmp_path.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", text), page.name
        assert not re.findall(r"<link[^>]+href=\"?(?:https?:)?//", text), page.name


def test_the_navigation_names_every_page_once() -> None:
    named = list(leaves(parsed("mkdocs.yml")["nav"]))
    assert sorted(named) == sorted(PAGES)


def test_the_start_page_leads_to_every_page() -> None:
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"({page})" in start for page in PAGES - {"index.md"})


def test_no_list_follows_a_paragraph_without_a_blank_line() -> None:
    """The site takes such a list for more text of the paragraph."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        lines = ["", *text.splitlines()]
        for before, line in itertools.pairwise(lines):
            if re.match(r"(- |\* |\d+\. )", line):
                assert not before or re.match(r"(- |\* |\d+\. |  )", before), f"{page.name}: {line}"


def test_the_workflow_runs_every_python_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    (job,) = parsed(".github/workflows/test.yml")["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["python"] == declared
    assert [system.partition("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_without_make_the_workflow_runs_what_make_test_runs() -> None:
    (job,) = parsed(".github/workflows/test.yml")["jobs"].values()
    steps = "\n".join(step.get("run", "") for step in job["steps"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "test: lint types unit" in makefile and "make test" in steps
    recipes = {name: re.search(rf"^{name}:.*\n((?:\t.*\n)+)", makefile, re.M) for name in ("lint", "types", "unit")}
    for name, recipe in recipes.items():
        assert recipe, name
        for line in recipe[1].replace("$(PYTEST)", "$(BIN)/pytest -n 2").splitlines():
            assert line.strip().replace("$(BIN)/", "python -m ") in steps, line


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*##", makefile, re.M))


def test_hooks_before_a_commit_are_those_of_make_test() -> None:
    (repo,) = parsed(".pre-commit-config.yaml")["repos"]
    entries = " ".join(hook["entry"] for hook in repo["hooks"])
    assert repo["repo"] == "local" and all(tool in entries for tool in ("ruff check", "ruff format", "mypy"))
