"""How fast the verbs that read answer, beside what their libraries take alone: seconds of the whole process.

python benchmarks/light.py
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from peers import machine

ROUNDS = 11
BUNDLES = 200
IMPORTS = "import typer, rich, pydantic"
SMALLEST = """
import typer
from rich.console import Console
from rich.table import Table
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def show(name: str):
    table = Table()
    table.add_column("name")
    table.add_row(name)
    Console().print(table)
app()
"""
HELP = """
import typer, rich
from pydantic import BaseModel
class Setting(BaseModel):
    number: int
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def show(name: str, other: str = typer.Option("a", help="What else.")):
    pass
app()
"""
MYPT = "from mypt.cli.app import main; main()"
RUN = ["--preset", "tiny", "--max-iters", "100", "--eval-interval", "50"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            subprocess.run(
                [sys.executable, "-c", MYPT, "train", name, *RUN], check=True, capture_output=True, cwd=folder
            )
        for number in range(BUNDLES):
            shutil.copytree(Path(folder) / "checkpoints" / "a", Path(folder) / "many" / f"run_{number}")
        calls = {
            IMPORTS: (IMPORTS,),
            "the smallest typer command that prints a rich table": (SMALLEST, "a"),
            "the help of a typer command beside one pydantic model": (HELP, "--help"),
            "mypt inspect a": (MYPT, "inspect", "a"),
            "mypt compare a b": (MYPT, "compare", "a", "b"),
            "mypt logs summarize a": (MYPT, "logs", "summarize", "a"),
            "mypt inspect": (MYPT, "inspect"),
            f"mypt inspect, {BUNDLES} bundles": (MYPT, "inspect", "--out-dir", "many"),
            "mypt presets": (MYPT, "presets"),
            "mypt compare --help": (MYPT, "compare", "--help"),
            "mypt --help": (MYPT, "--help"),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", *call], check=True, capture_output=True, cwd=Path(folder))
                times[name].append(time.perf_counter() - began)
    print(f"{machine()}; medians of {ROUNDS}, in turn")
    alone = median(times[IMPORTS])
    for name, found in times.items():
        print(f"  {name:52} {median(found):6.3f} s  {median(found) / alone:5.2f} x")


if __name__ == "__main__":
    main()
