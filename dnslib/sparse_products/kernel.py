"""A kernel: the product that a package offers, its format, the zeros it can use, and the bytes it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from dnslib.export.quantised import BLOCK
from dnslib.sparse_products.patterns import Matrices, columns_kept, prune_bands, prune_blocks

FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-5, 0.05  # of the largest error, relative to the largest value of the product
FLOAT_BYTES, INDEX_BYTES, INDEX_64_BYTES = 4, 4, 8


@dataclass(frozen=True)
class Kernel:
    """A product that a package offers.

    ``store(matrices, block)`` brings the matrices into its format once; ``bind(stored, x, y)`` copies that to new
    memory and returns the function that multiplies: from ``x`` (matrices, columns) into ``y`` (matrices, rows).
    """

    name: str
    package: str  # that provides it
    storage: str  # rows or columns of a dense matrix, packed by the package, int8, csr, bsr, bands
    store: Callable[[Matrices, tuple[int, int]], Sequence]
    bind: Callable[[Sequence, np.ndarray, np.ndarray], Callable[[], None]]
    block: tuple[int, int] | None = None  # rows x columns that are zero together; None: zeros are stored
    index_bytes: int = INDEX_BYTES
    tolerance: float = FLOAT_TOLERANCE

    @property
    def dense(self) -> bool:
        """Whether it stores every weight as it is."""
        return self.storage in ("rows", "columns", "packed")

    def prune(self, matrices: Matrices, zeros: float) -> list[np.ndarray]:
        """``matrices`` with the zeros that this kernel can make use of."""
        if self.block is None:
            return list(matrices)
        if self.storage == "bands":
            return prune_bands(matrices, self.block[0], zeros)
        return prune_blocks(matrices, self.block, zeros)

    def opener(self, matrices: Matrices, stored=None) -> "Opener":
        """What opens the product of (pruned) matrices; every call takes new memory for the weights.

        ``stored`` are the matrices as `store` gave them, where another kernel of the same form has done that.
        """
        stored = self.store(matrices, self.block) if stored is None else stored
        return partial(Product, self.bind, stored, len(matrices), matrices[0].shape)

    def bytes_per_weight(self) -> float:
        """Bytes read for each weight that is kept, its share of the column index included; without row pointers."""
        if self.storage == "int8":
            return 1 + FLOAT_BYTES / BLOCK
        return FLOAT_BYTES + (self.index_bytes / prod(self.block) if self.block else 0)

    def bytes_per_frame(self, count: int, shape: tuple[int, int], zeros: float = 0.0) -> int:
        """Bytes of weights, indices and row pointers that one frame reads; the vectors are a thousandth of it."""
        rows, columns = shape
        if self.block is None:
            columns = -(-columns // BLOCK) * BLOCK if self.storage == "int8" else columns  # the last block is filled up
            return round(count * rows * columns * self.bytes_per_weight())
        height, width = self.block
        if self.storage == "bands":
            kept, pointers = count * (rows // height) * columns_kept(columns, zeros), 0
        else:
            blocks = count * rows * columns // (height * width)
            kept, pointers = blocks - round(zeros * blocks), count * (rows // height + 1)
        return kept * (FLOAT_BYTES * height * width + self.index_bytes) + self.index_bytes * pointers

    def zeros_for_traffic(self, share: float) -> float:
        """The share of zeros at which it reads ``share`` of what a dense float32 product reads.

        CSR, with 8 bytes a value, reads as much as the dense product at 0.5, half of it at 0.75.
        """
        return 1 - share * FLOAT_BYTES / self.bytes_per_weight()


class Product:
    """All products of one frame, ready to run: called with a frame (matrices, at least columns), fills ``y``.

    The frame is copied first, as a network's input would be. ``y`` is (matrices, rows).
    """

    def __init__(self, bind: Callable, stored: Sequence, count: int, shape: tuple[int, int]):
        self.x, self.y = np.zeros((count, shape[1]), np.float32), np.zeros((count, shape[0]), np.float32)
        self._multiply = bind(stored, self.x, self.y)

    def __call__(self, frame: np.ndarray) -> None:
        np.copyto(self.x, frame[:, : self.x.shape[1]])
        self._multiply()


Opener = Callable[[], Product]
