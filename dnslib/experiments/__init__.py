"""Trained networks as files: a `Run` says all that decides a network, a `Laboratory` trains it once and scores it once.

A run is a frozen record; a run that starts from another one contains it. Its folder, ``<outputs>/runs/<name>-<hash>``,
is keyed by the record and by the source code that matters:

    config.json   history.csv   model.safetensors   summary.json   scores-<test set>.csv   DONE

Notebooks ask for the runs they need, so a network that two notebooks need is trained once, and any notebook works
alone. Killed and started again, a run continues at its checkpoint.

``runs`` has the record and its key, ``catalogue`` which runs a study has, ``files`` digests, names and writing of
files, ``training`` fills a run's folder, ``streaming`` enhances and times streaming files, ``scheduling`` sends jobs
that ``worker`` does, all for the ``laboratory``.
"""

from dnslib.experiments.catalogue import CYCLE_SEEDS
from dnslib.experiments.files import source_digest, with_snr_and_noise, write_json
from dnslib.experiments.laboratory import NOISY, PLAIN, TEST_SEED, Laboratory
from dnslib.experiments.runs import Run, code_digest, configuration_name, describe, widths_of
from dnslib.experiments.scheduling import job_record, score_all, train_all
from dnslib.experiments.streaming import enhance_clips, enhance_streaming
from dnslib.experiments.training import device
from dnslib.experiments.worker import do_job, run_of

__all__ = [
    "CYCLE_SEEDS", "NOISY", "PLAIN", "TEST_SEED", "Laboratory", "Run", "code_digest", "configuration_name", "describe",
    "device", "do_job", "enhance_clips", "enhance_streaming", "job_record", "run_of", "score_all", "source_digest",
    "train_all", "widths_of", "with_snr_and_noise", "write_json",
]  # fmt: skip
