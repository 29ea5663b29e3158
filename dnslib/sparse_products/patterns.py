"""Which weights are zero: GRU matrices of a network, pruned in blocks or in bands."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.model import Cruse
from dnslib.pruning import gru_weights

Matrices = Sequence[np.ndarray]


def gru_matrices(model: Cruse) -> list[np.ndarray]:
    """The weights of all groups, those of the inputs first: 2 P matrices of shape (3 H, H), copies."""
    return [matrix.copy() for weight in gru_weights(model) for matrix in weight.detach().cpu().numpy()]


def with_gru_matrices(model: Cruse, matrices: Matrices) -> Cruse:
    """A copy of ``model`` with other GRU weights, in the order of `gru_matrices`."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for weight, part in zip(gru_weights(changed), np.split(np.stack(matrices), 2), strict=True):
            weight.copy_(torch.from_numpy(part))
    return changed


def prune_blocks(matrices: Matrices, block: tuple[int, int], zeros: float) -> list[np.ndarray]:
    """Copies in which the share ``zeros`` of all blocks, those of the smallest L2 norm in all matrices together, is 0.

    Blocks of (1, 1) are single weights by magnitude, which is `dnslib.pruning.sparsify`.
    """
    norms = np.stack([_blocks(matrix, block, zeros) for matrix in matrices])
    kept = np.ones(norms.size, dtype=bool)
    count = round(zeros * norms.size)
    if count:
        kept[np.argpartition(norms.ravel(), count - 1)[:count]] = False
    kept = kept.reshape(norms.shape).repeat(block[0], axis=1).repeat(block[1], axis=2)
    return [np.where(keep, matrix, np.float32(0)) for matrix, keep in zip(matrices, kept, strict=True)]


def prune_bands(matrices: Matrices, rows: int, zeros: float) -> list[np.ndarray]:
    """Copies in which each band of ``rows`` rows keeps the columns of its largest L2 norms, equally many in each."""
    return [np.where(_kept_in_bands(matrix, rows, zeros), matrix, np.float32(0)) for matrix in matrices]


def _kept_in_bands(matrix: np.ndarray, rows: int, zeros: float) -> np.ndarray:
    norms = _blocks(matrix, (rows, 1), zeros)  # (bands, columns)
    kept = np.zeros(norms.shape, dtype=bool)
    largest = np.argsort(-norms, axis=1, kind="stable")[:, : columns_kept(matrix.shape[1], zeros)]
    np.put_along_axis(kept, largest, True, axis=1)
    return kept.repeat(rows, axis=0)


def columns_kept(columns: int, zeros: float) -> int:
    return max(1, round((1 - zeros) * columns))


def _blocks(matrix: np.ndarray, block: tuple[int, int], zeros: float) -> np.ndarray:
    """Squared norms of the blocks, (rows / height, columns / width)."""
    if not 0 <= zeros < 1:
        raise MisuseError(f"The share of zeros must lie in [0, 1), not {zeros}.")
    (rows, columns), (height, width) = matrix.shape, block
    if rows % height or columns % width:
        raise MisuseError(f"A matrix of {rows} x {columns} cannot be cut into blocks of {height} x {width}.")
    return np.square(matrix).reshape(rows // height, height, columns // width, width).sum(axis=(1, 3))
