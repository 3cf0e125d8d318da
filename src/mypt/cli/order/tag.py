"""`mypt tag`."""

from typing import Annotated, Any

import typer

from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import error_console, say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


class TagVerb(Verb):
    """A verb for which `-draft` is a word, and no row of options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a call, those that take a tag away behind all options."""
        values = {o for p in self.get_params(ctx) if not getattr(p, "is_flag", True) for o in p.opts}
        follows_option = [False, *(word in values for word in args)]
        is_dropped = [
            word[0:1] == "-" and word[1:2] not in ("", "-") and word != "-h" and not value
            for word, value in zip(args, follows_option, strict=False)
        ]
        dropped = [word for word, is_one in zip(args, is_dropped, strict=True) if is_one]
        rest = [word for word, is_one in zip(args, is_dropped, strict=True) if not is_one]
        return super().parse_args(ctx, [*rest, "--", *dropped] if dropped and "--" not in rest else args)


@app.command(cls=TagVerb, epilog="Example: mypt tag dante +good -draft --note 'the run for the talk'")
def tag(
    ctx: typer.Context,
    name: Annotated[str | None, name_argument("Name of the run; the tags of all runs without it.")] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(help="+TAG to add a tag, -TAG to take it away.", metavar="[+TAG|-TAG]")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help='A sentence on the run; "" takes it away.')] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Tag a run, which other verbs look for by --tag, or note something on it; without changes, show both.

    A run that is being trained is refused; `mypt train` and `mypt resume` take --tag and --note themselves.
    """
    from mypt.order.labels import label, tags_in

    out = work_console(ctx)
    if name is None:
        runs = tags_in(out_dir)
        every = sorted(set().union(*runs.values()))
        lines = [f"{tag}: {', '.join(name for name, own in runs.items() if tag in own)}" for tag in every]
        say(out, *(lines or ["No run has a tag."]))
        return
    words = changes or []
    state = label(
        name,
        out_dir,
        lambda text: say(error_console(), text),
        add=[word.removeprefix("+") for word in words if word[:1] != "-"],
        drop=[word[1:] for word in words if word[:1] == "-"],
        note=note,
    )
    if state is not None:
        say(out, f"{name}: {', '.join(state.tags) or 'no tags'}", *([f"Note: {state.note}"] if state.note else []))
