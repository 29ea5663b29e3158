"""The clock of everything: samples and frames. Not in `dnslib.stft`, so that what needs no tensors starts quickly."""

SAMPLE_RATE = 16_000  # Hz
WINDOW = 320  # samples, 20 ms
HOP = 160  # samples, 10 ms
BINS = WINDOW // 2 + 1
