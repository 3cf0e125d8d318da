"""Writes and reads parts by torch's distributed checkpoint, as safetensors, which run no code when read."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from mypt.checkpoint.atomic import flush, storage_errors
from mypt.checkpoint.layout import PART
from mypt.checkpoint.manifest import damaged, file_hash
from mypt.schema.files.manifest import FileHash


def write_part(content: Mapping[str, Tensor], folder: Path, rank: int) -> dict[str, FileHash]:
    """Let every process write what it has of some tensors; all have to call this together, with the same names.

    Args:
        content: DTensors, each of which the processes have between them, or numbers that they all have.
        folder: on a disk that all of them see.
        rank: of this process.

    Returns:
        What this process has written, with hashes as read back from disk.

    Raises:
        StorageError: this process cannot write. The others come back from here as if all were well.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with storage_errors(folder):
        with _own_error(rank):
            save(dict(content), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        files = sorted(folder.glob(f"shard-{rank + 1:05d}-*{PART}"))
        for file in files:  # torch does so before it has handed over the last bytes
            flush(file)
        return {f"{folder.name}/{file.name}": file_hash(file) for file in files}


def read_parts(content: Mapping[str, Tensor], folder: Path, rank: int | None = None) -> None:
    """Fill tensors with what a folder has of them, however many processes wrote it.

    Args:
        content: whole tensors, or DTensors of which each process gets its own rows.
        folder: whose heads have been read and found to be those of the model.
        rank: of this process, where all call this together; None if it reads by itself.

    Raises:
        BundleError: this process cannot read. The others come back from here as if all were well.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    try:
        with _own_error(rank or 0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(dict(content), storage_reader=reader, no_dist=rank is None)
    except (RuntimeError, ValueError, AssertionError, OSError, KeyError) as error:
        raise damaged(folder, f"cannot be read: {' '.join(str(error).split())}") from error


@contextmanager
def _own_error(rank: int) -> Iterator[None]:
    """Raise what this process has met, in place of torch's collection of what all have."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        if rank in error.failures:
            raise error.failures[rank][0] from error
