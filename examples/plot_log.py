"""Draws the val loss of a run over its tokens as bars of text, from the log alone.

python examples/plot_log.py logs/train/dante_eval.jsonl
"""

import json
import sys
from pathlib import Path

WIDTH = 50


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("Give the path of a log, for example logs/train/dante_eval.jsonl.")
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]  # a crash can leave a torn last line
    evals = [e for e in events if e["event"] == "eval"]
    if not evals:
        sys.exit("No evaluation was logged yet.")
    top = max(e["val_loss"] for e in evals)
    print(f"{'tokens':>14}  val loss")
    for e in evals:
        bar = "█" * max(1, round(WIDTH * e["val_loss"] / top))
        print(f"{e['tokens_processed']:>14,}  {bar} {e['val_loss']:.4f}")


if __name__ == "__main__":
    main()
