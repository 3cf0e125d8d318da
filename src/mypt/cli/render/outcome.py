"""What is said at the end of a run, of a reproduction and of an export."""

from pathlib import Path
from typing import TYPE_CHECKING

from mypt import units
from mypt.checkpoint.family import Family
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import command
from mypt.run.exchange.choice import BetterGold, better_gold_of, losses_of_run
from mypt.schema.files.state import TrainingState

if TYPE_CHECKING:
    from mypt.run.exchange.fp16 import Export
    from mypt.run.exchange.imports import Imported
    from mypt.run.reproduce import Verdict
    from mypt.run.train import Outcome


def training_lines(name: str, outcome: "Outcome", dry_run: bool) -> list[str]:
    """What was trained and what to do with it, or why nothing was trained."""
    further = str(outcome.step * 2)
    if outcome.patience is not None:
        return _patience_lines(outcome, outcome.patience)
    if outcome.plan is None:
        return [
            f"Nothing left to do: {name} is at step {outcome.step} already.",
            f"Give a larger number of steps, for example: {command('resume', outcome.path, '--max-iters', further)}",
        ]
    if outcome.result is None:
        return ["Dry run: nothing was written."] if dry_run else []
    if outcome.result.stopped:
        return [
            f"Stopped after step {outcome.step} ({outcome.result.stopped}); everything is saved.",
            f"  Go on with: {command('resume', outcome.path)}",
        ]
    lines = ["Training finished!", f"  Resume training from: {outcome.path.as_posix()}"]
    if outcome.stopped is not None:
        again = command("export-fp16", outcome.path)
        lines.append(f"  The fp16 bundle was not made ({outcome.stopped}); make it with: {again}")
    if outcome.export is not None:
        lines += [f"  Deploy inference from: {outcome.export.path.as_posix()}", *_rounding_notes(outcome.export)]
    lines += _gold_lines(outcome.path, outcome.result.state)
    better = better_gold_of(outcome.path)
    return [*lines, *_loss_lines(outcome), *(better_gold_lines(better) if better else [])]


def _patience_lines(outcome: "Outcome", more: int) -> list[str]:
    """That a run was ended, or is not gone on with, because it gets no better."""
    state = outcome.result.state if outcome.result is not None else read_state(outcome.path)
    progress, count = state.progress, state.progress.evaluations_since_best
    tries = "1 evaluation" if count == 1 else f"{count} evaluations in a row"
    than = "no val loss"
    if progress.best_val_loss is not None:
        than = f"no better val loss than {progress.best_val_loss:.4f} at step {progress.best_step}"
    if outcome.result is not None:
        told = f"Ended at step {outcome.step} (patience): {tries} found {than}; everything is saved."
    else:
        told = (
            f"Nothing left to do: {outcome.path.name} is at step {outcome.step}, and {tries} found {than} (patience)."
        )
    again = command("resume", outcome.path, "--patience", str(more))
    return [told, *_gold_lines(outcome.path, state), f"  Go on with: {again}"]


def _gold_lines(run: Path, state: TrainingState) -> list[str]:
    """Where the best checkpoint of a run is, if it has one."""
    gold, path = state.progress.gold, Family(run).gold
    if gold.step is None or not path.exists():
        return []
    return [f"  🏆 Best (GOLD) checkpoint: {path.as_posix()} (step {gold.step}, val_loss={gold.val_loss:.4f})"]


def better_gold_lines(better: BetterGold) -> list[str]:
    """That gold is the bundle to deploy, and how it is made light."""
    return [
        f"  ⚠️  {better}.",
        f"      Deploy {better.path.as_posix()} instead; make it light with: {command('export-fp16', better.path)}",
    ]


def _loss_lines(outcome: "Outcome") -> list[str]:
    """The val loss of each bundle that a complete run has left."""
    losses = [(loss.path, loss.step, loss.val_loss) for loss in losses_of_run(outcome.path)]
    if outcome.export is not None:
        exported = outcome.export
        losses = [(p, s, exported.val_loss_after if p == exported.path else loss) for p, s, loss in losses]
    told = [f"{path.name} {loss:.4f} (step {step})" for path, step, loss in losses if loss is not None]
    return [f"  Val losses: {', '.join(told)}"] if told else []


def reproduction_lines(verdict: "Verdict") -> list[str]:
    """Whether a run that was run again is the recorded one, and where it first is not."""
    lines = []
    if verdict.left_out:
        lines.append(f"left out: {', '.join(verdict.left_out)}; what became gold is therefore not compared")
    if verdict.hashes:
        recorded, made = verdict.hashes
        lines.append(f"weights: recorded {recorded[:16]}…, reproduced {made[:16]}…")
    if verdict.identical:
        steps = f"{verdict.steps} steps"
        proved = f"all {steps} and the weights" if verdict.whole else f"the first {steps}"
        return [*lines, f"identical: {proved}, {len(verdict.rows)} evaluations"]
    at = verdict.first_difference
    where = f"first at the evaluation of step {at}" if at is not None else "in the weights at the end"
    causes = ", ".join(c.name for c in verdict.differences) or "no recorded circumstance"
    return [*lines, f"different: {where}; what differs from the record: {causes}"]


def export_lines(export: "Export") -> list[str]:
    """What an export wrote, and what the rounding cost."""
    lines = [
        f"Exported {export.path.as_posix()}",
        f"  weights: {units.size(export.bytes_before)} before, {units.size(export.bytes_after)} after",
        f"  largest rounding error: {export.rounding.error:.3g} in {export.rounding.tensor}",
    ]
    if export.val_loss_before is not None and export.val_loss_after is not None:
        lines.append(f"  val loss: {export.val_loss_before:.6f} before, {export.val_loss_after:.6f} after")
    return lines


def import_lines(imported: "Imported") -> list[str]:
    """What was imported, what of it was not, and what can be done with it."""
    record, file, path = imported.record, imported.tokenizer, imported.path
    kind = "unknown: ids alone" if file.token_kind == "ids" else file.token_kind
    lines = [
        f"Imported {path.as_posix()}",
        f"  from: {record.path} ({record.kind}, {record.model_type})",
        f"  tokenizer: {kind}, {file.vocab_size:,} tokens",
    ]
    if file.token_kind == "ids":
        lines.append("  Nothing says what its ids mean; name a bundle or dataset that does by --tokenizer.")
    start = command("train", path.with_name("NEW"), "--init-from-model", path.name)
    return [*lines, *(f"  {note}" for note in record.notes), "Next:", f"  {command('generate', path)}", f"  {start}"]


def _rounding_notes(export: "Export") -> list[str]:
    """A warning where rounding to fp16 moved the loss by more than a thousandth."""
    before, after = export.val_loss_before, export.val_loss_after
    if before is None or after is None or abs(after - before) < 1e-3:
        return []
    return [f"  Rounding to fp16 changed the val loss from {before:.4f} to {after:.4f}."]
