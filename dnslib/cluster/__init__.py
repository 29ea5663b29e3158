"""Jobs done by other processes and machines, through Dask: a job is plain data, its result lies in files.

A scheduler is named by one text: ``local:2`` (two worker processes on this machine), ``tcp://host:port`` (one already
running) or a dask-jobqueue file such as ``notebooks/parameters/cluster-slurm.yaml`` (Slurm, PBS, …). All processes
share the folder of the outputs. A worker does one job at a time; the job of a worker that was killed is done again by
another one. Dask is imported when a scheduler is named, never before.

Dask's messages are pickles: whoever can reach a scheduler can run code on its workers, and the other way round. So
``local:N`` listens on this machine only, and the others belong on a network that is trusted.

`check` and `opened` (``opening``) take that text; ``local``, ``addresses`` and ``batch`` know its three kinds; ``jobs``
has what is done with the workers, and on them.
"""

from dnslib.cluster.batch import batch_script
from dnslib.cluster.jobs import Cluster, ClusterError, Job
from dnslib.cluster.opening import check, opened

__all__ = ["Cluster", "ClusterError", "Job", "batch_script", "check", "opened"]
