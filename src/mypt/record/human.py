"""Figures for people: durations, counts, bytes, and the two lines that an evaluation prints."""

import re

from mypt.schema.events import Eval, GoldBlocked, GoldCheckpoint


def duration(seconds: float) -> str:
    """`45s`, `15m`, `52.3h` or `4.2d`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds / 60:.0f}m"
    if seconds < 100 * 3600:
        return f"{seconds / 3600:.1f}h"
    return f"{seconds / 86400:.1f}d"


def count(number: float) -> str:
    """`950`, `3.4K`, `34M`, `7.4B`: from ten thousand to a billion whole, as in the spec's console lines."""
    for limit, divisor, unit in ((1e3, 1.0, ""), (1e6, 1e3, "K"), (1e9, 1e6, "M")):
        if number < limit:
            short = unit and number < 9.95 * divisor
            return f"{number / divisor:.1f}{unit}" if short else f"{number / divisor:.0f}{unit}"
    return f"{number / 1e9:.1f}B" if number < 1e12 else f"{number / 1e12:.1f}T"


def flop(number: float) -> str:
    """`5 MFLOP`, `2.4 GFLOP`, `4.4 EFLOP`: floating point operations."""
    for limit, unit in ((1e9, "M"), (1e12, "G"), (1e15, "T"), (1e18, "P")):
        if number < limit:
            value = number / limit * 1000
            return f"{value:.1f} {unit}FLOP" if value < 10 else f"{value:.0f} {unit}FLOP"
    return f"{number / 1e18:.1f} EFLOP"


def parameters(number: int) -> str:
    """`0.80M`, `124.4M`, `1.56B`: three figures, as models are named by."""
    if number < 1_000_000:
        return f"{number / 1e6:.2f}M" if number >= 100_000 else f"{number:,}"
    return f"{number / 1e6:.1f}M" if number < 1e9 else f"{number / 1e9:.2f}B"


def size(number: float) -> str:
    """Bytes as `512 B`, `3.2 MB`, `1.4 GB`, in powers of 1000 as disks are sold."""
    for limit, divisor, unit in ((1e3, 1.0, "B"), (1e6, 1e3, "KB"), (1e9, 1e6, "MB")):
        if number < limit:
            return f"{number / divisor:.0f} {unit}" if unit == "B" else f"{number / divisor:.1f} {unit}"
    return f"{number / 1e9:.1f} GB" if number < 1e12 else f"{number / 1e12:.1f} TB"


def eval_lines(event: Eval, max_iters: int, eta_seconds: float) -> tuple[str, str]:
    """The spec's two-line summary of an evaluation.

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
    """The spec's line on a gold decision."""
    if isinstance(event, GoldCheckpoint):
        return f"  🏆 New GOLD checkpoint! val_loss={event.val_loss:.4f} at step {event.iter}"
    guard, _, why = event.reason.partition(": ")
    best = "none" if event.best_val_loss is None else f"{event.best_val_loss:.4f}"
    why = re.sub(r"(threshold=\d+)\.0x", r"\1x", why)
    return f"  ⚠️  GOLD blocked: val {event.val_loss:.4f} < best {best} but {guard} ({why})"
