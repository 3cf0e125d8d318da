"""Which device computes, what it is, and how much memory it has used."""

import ctypes
import os
import platform
import sys
from importlib.metadata import version

import torch

from mypt import __version__
from mypt.data.loader import Batch
from mypt.errors import DeviceError
from mypt.launch import ALONE, Launch
from mypt.schema.files.environment import Environment

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_UNITS = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2", "sve2", "sve", "neon")
"""The widest first; a CPU with another one of them gives other bits."""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def available_devices() -> list[str]:
    """The devices of this machine, the fastest first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    found = ["cuda", *found] if found else []
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def resolve_device(name: str) -> str:
    """The device to compute on; `auto` takes the fastest one present.

    Raises:
        DeviceError: it is not on this machine.
    """
    present = available_devices()
    if name == "auto":
        return present[0]
    if name not in present:
        raise DeviceError(
            f"The device {name} is not available on this machine.",
            f"Use --device auto, or one of: {', '.join(present)}.",
        )
    return name


def reserve_workspace(device: str = "cuda") -> None:
    """Let cuBLAS compute the same each time; torch and cuBLAS look at this once, when cuBLAS is first used."""
    if device.startswith("cuda"):
        os.environ.setdefault(WORKSPACE, ":4096:8")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch where the model is; a GPU fetches it while it still computes."""
    if device.type != "cuda":
        return batch[0].to(device), batch[1].to(device)
    x, y = (t.pin_memory().to(device, non_blocking=True) for t in batch)
    return x, y


def keep_freed_memory() -> None:
    """Let memory that is freed stay with this process instead of going back to the system.

    glibc hands large blocks back at once, and gets them again page by page, each cleared: a tenth of a small step on
    a CPU and a fifth of a large one. Whoever sets one of glibc's own MALLOC_ variables is not interfered with.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in other C libraries
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20)):
            libc.mallopt(option, value)


def environment(device: str, launch: Launch = ALONE) -> Environment:
    """The circumstances of this process, and of those that train with it, that a trajectory depends on."""
    backend = "nccl" if device.startswith("cuda") else "gloo"
    return Environment(
        mypt=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=version("numpy"),
        tiktoken=version("tiktoken"),
        platform=platform.platform(),
        device=hardware(device),
        threads=torch.get_num_threads(),
        processor=processor(),
        processes=launch.size,
        hosts=launch.hosts,
        backend=backend if launch.size > 1 else None,
    )


def processor() -> str:
    """The CPU's name and the unit that bounds its matrix products, such as `Intel Xeon (amx_bf16)`."""
    has = torch.cpu.get_capabilities()
    unit = next((u for u in _UNITS if has.get(u)), str(has.get("architecture", platform.machine())))
    return f"{has.get('cpu_name') or platform.processor() or 'CPU'} ({unit})"


def hardware(device: str) -> str:
    """The name of a GPU, or the device's own where it has no other."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def peak_memory(device: str) -> int | None:
    """The most bytes this process has held so far, on the device or, for a CPU, in RAM; None if unknown."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
