"""Muon where each process holds some rows of every matrix: each makes a share of the matrices orthogonal, whole."""

from collections.abc import Sequence
from functools import cached_property
from math import sqrt

import torch
import torch.distributed as dist
from torch import Tensor

from mypt.train.optim.muon import RMS, Muon, Piece, orthogonalized
from mypt.train.parallel.parts import rows_of


class SharedMuon(Muon):
    """The update of `Muon`, to the bit, of tensors that are shared out by rows; arguments as there."""

    def __init__(
        self, params: Sequence[Tensor], pieces: Sequence[Sequence[int]], dtype: torch.dtype | None = None
    ) -> None:
        from torch.distributed.tensor import DTensor  # takes most of a second to load

        super().__init__(params, pieces, dtype)
        first = params[0]
        assert isinstance(first, DTensor)
        axis = first.device_mesh.ndim - 1
        self.group = first.device_mesh.get_group(axis)
        self.rank, self.size = first.device_mesh.get_local_rank(axis), first.device_mesh.size(axis)

    @cached_property
    def shares(self) -> list[list[int]]:
        """The numbers of the tensors that each process makes orthogonal: the largest go first to who has least."""
        shares: list[list[int]] = [[] for _ in range(self.size)]
        loads = [0] * self.size
        for number in sorted(range(len(self.sources)), key=lambda n: -self.sources[n].numel()):
            lightest = loads.index(min(loads))
            shares[lightest].append(number)
            loads[lightest] += self.sources[number].numel()
        return shares

    def _move(self, lr: float, weight_decay: float) -> None:
        parts = self._given_back(self._updates(self._gathered(self.ahead())))
        torch._foreach_mul_(self.params, 1 - lr * weight_decay)
        for shape, pieces in self.by_shape.items():
            for piece in pieces:
                rows = self._rows(piece.number, self.rank)
                inside = slice(max(piece.start, rows.start) - rows.start, min(piece.stop, rows.stop) - rows.start)
                if inside.start < inside.stop:
                    update = parts[piece.number][inside]
                    self.params[piece.number][inside].add_(update, alpha=-lr * RMS * sqrt(shape[1]))

    def _updates(self, ahead: dict[int, Tensor]) -> dict[int, Tensor]:
        """The whole updates of this process's share."""
        updates = {number: torch.empty_like(tensor) for number, tensor in ahead.items()}
        for pieces in self.by_shape.values():
            mine: list[Piece] = [piece for piece in pieces if piece.number in ahead]
            if mine:
                made = orthogonalized(torch.stack([piece.of(ahead) for piece in mine]))
                torch._foreach_copy_([piece.of(updates) for piece in mine], list(made.unbind()))
        return updates

    def _gathered(self, parts: Sequence[Tensor]) -> dict[int, Tensor]:
        """Whole, the tensors of this process's share, of all of which each process brings its rows."""
        flat = [parts[n].to(self.dtype).flatten() for share in self.shares for n in share]
        received = self._exchange(torch.cat(flat), self._sizes(holder=self.rank), self._sizes(maker=self.rank))
        mine = self.shares[self.rank]
        cuts = torch.split(received, [self._numel(n, rank) for rank in range(self.size) for n in mine])
        whole = {n: torch.cat(cuts[i :: len(mine)]) for i, n in enumerate(mine)}
        return {n: tensor.view(self.sources[n].shape) for n, tensor in whole.items()}

    def _given_back(self, updates: dict[int, Tensor]) -> dict[int, Tensor]:
        """The own rows of all updates, each of which one process has whole."""
        rows = [(n, self._rows(n, rank)) for rank in range(self.size) for n in self.shares[self.rank]]
        flat = [updates[n][own.start : own.stop].flatten() for n, own in rows]
        empty = torch.empty(0, dtype=self.dtype, device=self.params[0].device)
        received = self._exchange(
            torch.cat([empty, *flat]), self._sizes(maker=self.rank), self._sizes(holder=self.rank)
        )
        order = [n for share in self.shares for n in share]
        cuts = torch.split(received, [self._numel(n, self.rank) for n in order])
        return {n: part.view(-1, self.sources[n].size(1)) for n, part in zip(order, cuts, strict=True)}

    def _exchange(self, sent: Tensor, to_each: Sequence[int], from_each: Sequence[int]) -> Tensor:
        received = sent.new_empty(sum(from_each))
        dist.all_to_all_single(received, sent, [*from_each], [*to_each], group=self.group)
        return received

    def _sizes(self, *, holder: int | None = None, maker: int | None = None) -> list[int]:
        """Values that go between a process and each other one: as the holder of rows, or as the maker of updates."""
        if holder is not None:
            return [sum(self._numel(n, holder) for n in share) for share in self.shares]
        assert maker is not None
        return [sum(self._numel(n, rank) for n in self.shares[maker]) for rank in range(self.size)]

    def _rows(self, number: int, rank: int) -> range:
        return rows_of(self.sources[number].size(0), rank, self.size)

    def _numel(self, number: int, rank: int) -> int:
        return len(self._rows(number, rank)) * self.sources[number].size(1)
