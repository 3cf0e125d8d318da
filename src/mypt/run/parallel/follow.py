"""What the other processes of a run do: they join the session of the first, and train with it."""

from pathlib import Path
from typing import Any

import torch

from mypt.data.tokenizer import Tokenizer
from mypt.errors import MyptError
from mypt.launch import Launch
from mypt.model.network import Network
from mypt.run.data.places import Places
from mypt.run.data.recorded import recorded_data
from mypt.run.parallel.share import Shared, check_alike, check_windows, restore, share_weights
from mypt.run.reproduce import Again, run_again
from mypt.train.device.deterministic import settled
from mypt.train.device.devices import environment, keep_freed_memory
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.parallel.disk import saves_in_parts
from mypt.train.parallel.group import Group
from mypt.train.parallel.layout import placed
from mypt.train.parallel.meeting import Meeting
from mypt.train.planning import plan_run
from mypt.train.session import assemble
from mypt.train.stop import stop_on_signals


def follow(launch: Launch) -> None:
    """Join the session that the first process calls for, if it does.

    Raises:
        MyptError: the run ends with it, and this process is the one to say so.
        SystemExit: the run ends with an error that another process tells.
    """
    keep_freed_memory()
    meeting = Meeting(launch)
    if not meeting.come():
        return
    group = Group(launch, meeting)
    try:
        with meeting.told():
            _join(group)
    except MyptError as error:
        if group.speaks:
            raise
        _let_the_first_speak(group, meeting)
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        if not group.failed:
            raise
        _let_the_first_speak(group, meeting)
        raise SystemExit(1) from error
    finally:
        meeting.close()


def _let_the_first_speak(group: Group, meeting: Meeting) -> None:
    """Let the first process tell why the run ends, which notices only when it is gone that this one is the reason."""
    if not group.failed:
        meeting.leave_after_the_first()


def _join(group: Group) -> None:
    shared: Shared | Again = group.first(_never)
    if torch.cuda.is_available():
        torch.cuda.set_device(group.launch.local_rank)
    if isinstance(shared, Again):
        run_again(shared, group)
        return
    trainers: list[Trainer] = []
    group.each(lambda: trainers.append(_assembled(shared, group)))
    [trainer] = trainers
    check_windows(trainer.stepper)
    share_weights(trainer)
    plan = plan_run(trainer.stepper, shared.name, Path(), Observer(), trainer.stop)
    restore(trainer.stepper)
    if shared.dry_run:
        return
    group.first(_never)
    trainer.keeper.in_parts = saves_in_parts(trainer.stepper, trainer.observer, None)
    trainer.state = settled(trainer.state, plan.deterministic)
    trainer.prepare(plan)
    with stop_on_signals(trainer.stop):
        trainer.run()


def _assembled(shared: Shared, group: Group) -> Trainer:
    """The session, put together from its record as for a resume, with weights that are still to come."""
    state, config, tokenizer = shared.state, shared.config, Tokenizer(shared.tokenizer)
    check_alike(state.environment, environment(config.device, group.launch), group.launch.place)
    data = recorded_data(state, config, tokenizer, Places(), Observer())
    model = placed(Network.hollow(config), state.training_config, group.launch)
    trainer = assemble(model, data, state, Observer())
    trainer.stepper.group = group
    trainer.stop.elastic, trainer.stop.timed = group.launch.elastic, False
    return trainer


def _never() -> Any:
    raise AssertionError("the first process does this")
