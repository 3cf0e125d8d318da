"""Lists every bundle of a folder, the best val loss first, without loading torch; says which cannot be read, and why.

python examples/inspect_runs.py checkpoints
"""

import sys
from pathlib import Path
from typing import Any

from mypt import get_model_info
from mypt.errors import MyptError


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "checkpoints")
    infos: list[dict[str, Any]] = []
    for config in sorted(folder.glob("[!.]*/config.json")):
        try:
            infos.append(get_model_info(config.parent.name, folder))
        except MyptError as error:
            print(f"{config.parent.name} is left out: {error.what}", file=sys.stderr)
    infos.sort(key=lambda info: info["training_state"]["progress"]["best_val_loss"] or float("inf"))
    print(f"{'name':24} {'parameters':>12} {'step':>8} {'best val':>9}")
    for info in infos:
        state = info["training_state"]
        best = state["progress"]["best_val_loss"]
        shown = f"{best:9.4f}" if best is not None else f"{'-':>9}"
        print(f"{info['name']:24} {info['parameters']['total']:>12,} {state['step']:>8} {shown}")


if __name__ == "__main__":
    main()
