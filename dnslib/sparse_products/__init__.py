"""When zeros become speed: products of the GRUs by dense, unstructured and block-sparse kernels of stock packages.

One frame of CRUSE32 is eight products of a matrix (1728, 576) and a vector (576): four groups, each with a weight for
its input and one for its state. Together they are 32 MB of float32 that every frame reads, so the eight are always
timed in turn, as a frame needs them, by the protocol of `dnslib.profiling` (interleaved rounds, each of which opens
every kernel anew). Here ``matrices`` is such a list, all of one shape (rows, columns), float32.

What is zero together is a kernel's `Kernel.block`, rows x columns: single weights; blocks of 8 x 4, as RNNoise prunes
its GRUs; or *bands*, where some consecutive rows share the columns they keep, and every band keeps equally many.
Equally many means that a band is a small dense matrix, for which every library has a fast product.

``patterns`` says which weights are zero, ``kernel`` what a kernel is and reads, ``libraries`` which ones the packages
offer, ``racing`` times them, ``table`` makes speedups from the times.
"""

from dnslib.sparse_products.kernel import Kernel
from dnslib.sparse_products.libraries import kernels, store_dense
from dnslib.sparse_products.patterns import gru_matrices, prune_bands, prune_blocks, with_gru_matrices
from dnslib.sparse_products.racing import (
    Case,
    busy_cores,
    exact_product,
    prepare,
    race,
    random_frames,
)
from dnslib.sparse_products.table import SPEEDUP, faster_from, results, speedups

__all__ = [
    "SPEEDUP", "Case", "Kernel", "busy_cores", "exact_product", "faster_from", "gru_matrices", "kernels", "prepare",
    "prune_bands", "prune_blocks", "race", "random_frames", "results", "speedups", "store_dense", "with_gru_matrices",
]  # fmt: skip
