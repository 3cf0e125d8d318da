"""Who started this process is told by torchrun's own variables alone."""

import pytest

from mypt.launch import Launch
from tests.conftest import Mypt

POD = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}
"""What a container of a job has for itself."""


def test_ranks_that_torchrun_did_not_give_are_not_believed() -> None:
    assert Launch.of(POD) == Launch.of({}) == Launch()
    started = Launch.of({**POD, "TORCHELASTIC_RUN_ID": "dante", "LOCAL_WORLD_SIZE": "1"})
    assert (started.rank, started.size, started.hosts, started.elastic) == (1, 2, 2, True)


def test_in_a_pod_a_plain_command_is_one_process(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in POD.items():
        monkeypatch.setenv(name, value)
    told = mypt("train", "m", "--input-file", "input.txt", "--preset", "tiny", "--block-size", "16", "--dry-run")
    assert "shared by" not in told.output
