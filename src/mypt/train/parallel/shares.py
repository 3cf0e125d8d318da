"""Which part of a step's work is whose."""


def share_of(count: int, rank: int, size: int) -> range:
    """The numbers below `count` that are a process's own: one block each, in order, none longer by more than one."""
    return range(rank * count // size, (rank + 1) * count // size)
