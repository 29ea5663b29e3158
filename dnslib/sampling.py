"""The clock of everything: samples and frames. Not in `dnslib.stft`, so that what needs no tensors starts quickly."""

SAMPLE_RATE = 16_000  # Hz
HIGHEST_RATE = 1_000_000  # Hz, far above any recording: a damaged header could fill the memory
WINDOW = 320  # samples, 20 ms
HOP = 160  # samples, 10 ms
BINS = WINDOW // 2 + 1
