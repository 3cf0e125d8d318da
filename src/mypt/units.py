"""Formats durations, counts and sizes for display."""


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
    """`950`, `3.4K`, `34M`, `7.4B`: one decimal below 10K, below 10M and from 1B on."""
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
    """Parameter counts such as `0.80M`, `124.4M` or `1.56B`."""
    if number < 1_000_000:
        return f"{number / 1e6:.2f}M" if number >= 100_000 else f"{number:,}"
    return f"{number / 1e6:.1f}M" if number < 1e9 else f"{number / 1e9:.2f}B"


def size(number: float) -> str:
    """Bytes as `512 B`, `3.2 MB` or `1.4 GB`, in powers of 1000."""
    for limit, divisor, unit in ((1e3, 1.0, "B"), (1e6, 1e3, "KB"), (1e9, 1e6, "MB")):
        if number < limit:
            return f"{number / divisor:.0f} {unit}" if unit == "B" else f"{number / divisor:.1f} {unit}"
    return f"{number / 1e9:.1f} GB" if number < 1e12 else f"{number / 1e12:.1f} TB"
