"""The console lines of an evaluation and of a gold decision, as docs/files.md gives them."""

import re

from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint
from mypt.units import count, duration


def eval_lines(event: Eval, max_iters: int, eta_seconds: float) -> tuple[str, str]:
    """The two lines that an evaluation prints.

    Args:
        event: the evaluation as it is logged.
        max_iters: the step that the run trains to.
        eta_seconds: estimated time to that step.
    """
    clock = event.timestamp[11:19]
    first = (
        f"step {event.iter}/{max_iters} ({event.iter / max_iters:.1%}) | {clock} | {duration(event.elapsed_s)}"
        f" | ETA {duration(eta_seconds)} | {count(event.tokens_processed)} tokens"
    )
    losses = {**event.eval_sets(), "train": event.train_loss}
    second = f"  val {event.val_loss:.4f} | lr {event.lr:.2e} | phase: {event.phase}"
    return first, second + "".join(f" | {name} {loss:.4f}" for name, loss in losses.items() if loss is not None)


def gold_line(event: GoldCheckpoint | GoldBlocked) -> str:
    """The line that a gold decision prints."""
    if isinstance(event, GoldCheckpoint):
        return f"  🏆 New GOLD checkpoint! val_loss={event.val_loss:.4f} at step {event.iter}"
    guard, _, why = event.reason.partition(": ")
    if guard == "not finite":
        return f"  ⚠️  GOLD blocked: not finite ({why})"
    best = "none" if event.best_val_loss is None else f"{event.best_val_loss:.4f}"
    why = re.sub(r"(threshold=\d+)\.0x", r"\1x", why)
    return f"  ⚠️  GOLD blocked: val {event.val_loss:.4f} < best {best} but {guard} ({why})"
