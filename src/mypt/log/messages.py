"""The console lines of an evaluation and of a gold decision, as docs/files.md gives them."""

import re

from mypt.schema.files.events import Eval, Evaluation, GoldBlocked, GoldCheckpoint, GoldRemeasured, Sample
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


def remeasured_lines(event: GoldRemeasured) -> list[str]:
    """The lines on what is measured otherwise from the start of a session on."""
    lines = [
        f"From step {event.iter} on losses are measured otherwise, so they do not compare with those before: "
        f"{event.reason}."
    ]
    if event.val_loss is not None and event.old_val_loss is not None:
        lines.append(
            f"Gold, of step {event.gold_step}, was measured anew: its val loss was {event.old_val_loss:.4f} and is "
            f"{event.val_loss:.4f}."
        )
    elif "val" in event.sets and event.gold_step is not None:
        lines.append(f"The gold bundle of step {event.gold_step} is not there to be measured anew: gold begins anew.")
    if others := [name for name in event.sets if name != "val"]:
        lines.append(f"The baseline of {', '.join(others)} is measured anew.")
    return lines


def overfit_line(best: Eval, event: Eval, ends: bool) -> str:
    """The line on a run that learns its text by heart.

    Args:
        best: the evaluation with the lowest val loss.
        event: the latest one.
        ends: whether its patience ends the run by itself.
    """
    end = "" if ends else "; --patience N ends such a run"
    return (
        f"  ⚠️  Overfitting: since step {best.iter} val rose from {best.val_loss:.4f} to {event.val_loss:.4f} "
        f"while train fell from {best.train_loss:.4f} to {event.train_loss:.4f}. "
        f"More text, a smaller model or --dropout helps{end}."
    )


def sample_lines(event: Sample) -> list[str]:
    """What the model writes, set off from the lines of the run."""
    first, *others = (event.prompt + event.text).splitlines() or [""]
    return [f"  ✎ {first}", *(f"    {line}" for line in others)]


def evaluation_line(event: Evaluation) -> str:
    """The line on what `mypt evaluate` found."""
    figures = {"loss": event.loss, "bits per byte": event.bpb, **event.metrics()}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
    return f"Evaluated {event.bundle}, step {event.iter}, on {event.source}: {shown}"


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
