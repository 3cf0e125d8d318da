"""`mypt doctor`: what a machine has, what mypt does on it, and what is in the way."""

import locale
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from mypt import __version__, units
from mypt.run.machine.disk import disk_facts
from mypt.run.machine.fact import Fact
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.compile import PAYS_AFTER_S
from mypt.train.device.devices import available_devices, processor, resolve_device
from mypt.train.device.precision import has_hardware_for
from mypt.train.planning import physical_memory

_TOLD = (
    "CUBLAS_", "CUDA_", "GLOO_", "KMP_", "MALLOC_", "MKL_", "NCCL_", "NO_COLOR", "OMP_", "PYTORCH_", "TORCH",
)  # fmt: skip
"""How the names of variables begin that change how torch or mypt behave."""
_EXTRAS = {
    "parquet": "pyarrow", "zstd": "zstandard", "board": "starlette", "plot": "matplotlib", "hf": "transformers",
    "gguf": "gguf", "eval": "lm_eval", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
"""What can be installed beside mypt, and a package by which it shows."""


def examine(out_dir: Path) -> list[Fact]:
    """Everything that is found of this machine, in the order in which it is shown.

    Args:
        out_dir: folder of all bundles, whose disk is tried.

    Raises:
        StorageError: nothing can be written there.
    """
    return [*_software(), *_processor(), *_memory(), *_devices(), *_doing(), *disk_facts(out_dir), *_surroundings()]


def _software() -> Iterator[Fact]:
    yield Fact("software", "mypt", __version__)
    yield Fact("software", "Python", f"{platform.python_version()} ({sys.executable})")
    yield Fact("software", "system", platform.platform())
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    yield Fact("software", "torch", f"{torch.__version__} {build}, {'with' if _has_mkldnn() else 'without'} oneDNN")
    names = ("numpy", "tiktoken", "pydantic", "typer", "rich")
    yield Fact("software", "with", ", ".join(f"{name} {version(name)}" for name in names))
    there = [extra for extra, package in _EXTRAS.items() if find_spec(package) is not None]
    yield Fact("software", "extras", ", ".join(there) or "none")


def _has_mkldnn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _processor() -> Iterator[Fact]:
    cores, all_cores, threads = usable_cores(), os.cpu_count() or 1, torch.get_num_threads()
    yield Fact("computing", "processor", processor())
    yield Fact("computing", "cores", f"{cores:g} of {all_cores}" if cores < all_cores else f"{all_cores}")
    yield Fact("computing", "threads", f"{threads}", _wrong_with_threads(threads, cores))
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        wrong = "Other programs keep more than half of the cores busy; training is slower meanwhile."
        yield Fact("computing", "load", f"{load:.1f} in the last minute", wrong if load > cores / 2 else "")


def _wrong_with_threads(threads: int, cores: float) -> str:
    if threads > max(1, cores):
        fewer = f"OMP_NUM_THREADS={max(1, int(cores))} before the call is faster"
        return f"{threads} threads wait for {cores:g} cores; {fewer}."
    if threads < int(cores) and "OMP_NUM_THREADS" in os.environ:
        return f"OMP_NUM_THREADS lets {threads} of {int(cores)} cores compute; leave it out."
    return ""


def usable_cores() -> float:
    """Cores that this process may use, by its affinity and by the limit of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _limit("cpu.max").partition(" ")
    return min(cores, int(quota) / int(period)) if quota.isdecimal() and period.isdecimal() else cores


def _limit(name: str) -> str:
    """A limit of the container, as Linux tells of version 2 of its control groups."""
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _memory() -> Iterator[Fact]:
    there, limit = physical_memory(), _limit("memory.max")
    found = "not known" if there is None else units.size(there)
    wrong = ""
    if limit.isdecimal() and (there is None or int(limit) < there):
        found += f", of which this container may use {units.size(int(limit))}"
        wrong = "What goes beyond the limit of the container is killed without a word."
    yield Fact("computing", "memory", found, wrong)


def _devices() -> Iterator[Fact]:
    devices = available_devices()
    for device in (device for device in devices if device.startswith("cuda:")):
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        yield Fact("computing", device, f"{name}, {units.size(free)} of {units.size(total)} free")
    if "mps" in devices:
        yield Fact("computing", "mps", "Apple GPU")
    has_driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    if has_driver and "cuda" not in devices:
        why = "its driver does not fit" if torch.version.cuda else "this torch is built for CPUs"
        yield Fact(
            "computing",
            "NVIDIA",
            "there, and torch does not use it",
            f"A GPU is idle: {why}. Install a torch that fits it.",
        )


def _doing() -> Iterator[Fact]:
    """What `mypt train` does here where nothing is set."""
    device, half = resolve_device("auto"), TrainingConfig().amp_dtype
    yield Fact("training", "device", device)
    fast = f"{half} where it is measured to be faster"
    yield Fact("training", "precision", fast if has_hardware_for(device, half) else f"fp32, as {device} has no {half}")
    gpu, compiler = device.startswith("cuda"), any(map(shutil.which, ("c++", "g++", "clang++", "cl")))
    found = f"from {PAYS_AFTER_S / 60:g} minutes of training on" if gpu else "not unless asked for: it is slower here"
    wrong = "It needs a C++ compiler: install one, or set --torch-compile off." if gpu and not compiler else ""
    yield Fact("training", "torch.compile", found + ("" if compiler else "; there is no compiler"), wrong)


def _surroundings() -> Iterator[Fact]:
    told = sorted(name for name in os.environ if name.startswith(_TOLD))
    yield Fact(
        "surroundings", "variables", ", ".join(f"{name}={os.environ[name]}" for name in told) or "none that matter"
    )
    encoding = locale.getpreferredencoding(do_setlocale=False)
    encodings = {encoding.lower().replace("-", "")} | {(sys.stdout.encoding or "utf8").lower().replace("-", "")}
    wrong = "" if encodings == {"utf8"} else "Set PYTHONUTF8=1, so that names and texts are shown as they are."
    yield Fact("surroundings", "text", f"{encoding}, output in {sys.stdout.encoding}", wrong)
