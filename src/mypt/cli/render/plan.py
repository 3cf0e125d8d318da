"""What a run is about to do and what it takes, and what is different from its record."""

from collections.abc import Sequence

from rich.table import Table

from mypt import units
from mypt.checkpoint.changes import MEANINGS, Change
from mypt.cli.render.tables import columns_table, data_size, pairs_table
from mypt.train.plan import Coverage, MaskUse, Plan


def plan_table(plan: Plan) -> Table:
    """What a run is about to do and what it takes."""
    data, config, training = plan.data, plan.config, plan.training
    measured = f", {units.size(plan.memory_measured)} measured" if plan.memory_measured else ""
    total = plan.training_s + plan.evaluating_s
    at = "at the end" if plan.evaluations == 1 else f"every {training.eval_interval:,}"
    rows = [
        ("data", data_size(data) if data else "not recorded"),
        ("coverage", _coverage(plan.coverage)),
        *([("loss mask", _masks(plan.masks))] if plan.masks else []),
        (
            "model",
            f"{units.parameters(plan.parameters)} parameters: {config.n_layer} layers, {config.n_head} heads, "
            f"{config.n_embd} wide, context {config.block_size}, vocabulary {config.vocab_size:,}",
        ),
        ("computing", f"{config.device} in {plan.precision}, {plan.tokens_per_step:,} tokens a step{_shared(plan)}"),
        ("memory", f"about {units.size(plan.memory_estimate)} estimated{measured}"),
        ("disk", f"{units.size(plan.disk_needed)} needed, {units.size(plan.disk_free)} free"),
        (
            "steps",
            f"{plan.first_step:,} to {training.max_iters:,}; evaluates and saves {at}",
        ),
        (
            "time",
            f"about {units.duration(total)}: {units.duration(plan.training_s)} training at "
            f"{plan.step_s * 1000:,.0f} ms a step (measured), {units.duration(plan.evaluating_s)} evaluating",
        ),
    ]
    if plan.evaluating_s > plan.training_s:
        rows.append(("hint", "evaluating takes longer than training: a smaller --eval-iters costs only precision"))
    rows += [("note", note) for note in plan.notes]
    return pairs_table(f"Plan for {plan.name}", rows)


def _shared(plan: Plan) -> str:
    """Who shares a step, what each has of the model, and what their sums promise."""
    training = plan.training
    if plan.state.environment is None or not (processes := plan.state.environment.shared_by):
        return ""
    if training.parallel == "hsdp":
        return f", shared by {processes}, of which each {training.shard_size} hold the model in parts (hsdp)"
    if training.parallel == "fsdp":
        return f", shared by {processes} that hold the model in parts (fsdp)"
    exact = " exactly" if training.reduce == "exact" else ""
    return f", shared by {processes} whose gradients are summed{exact}"


def _coverage(phases: Sequence[Coverage]) -> str:
    if [p.phase for p in phases] == [None]:
        return f"the run sees the training text {phases[0].times:.3g} times"
    return ", ".join(f"{p.phase} sees its {p.tokens:,} tokens {p.times:.3g} times" for p in phases)


def _masks(phases: Sequence[MaskUse]) -> str:
    told = []
    for use in phases:
        how = (
            f"used, {use.share:.1%} of the training tokens count" if use.used else "not used although the data have one"
        )
        how = how if use.there else "none"
        told.append(how if use.phase is None else f"{use.phase}: {how}")
    return "; ".join(told)


def changes_table(changes: Sequence[Change]) -> Table:
    """What differs from the recorded run."""
    rows = [(c.name, str(c.recorded), str(c.now), MEANINGS[c.meaning]) for c in changes]
    return columns_table("Changed since the record", ("setting", "recorded", "now", "what it means"), rows)
