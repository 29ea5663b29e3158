"""Room impulse responses, 16 kHz, float32 ``(taps,)``: simulated shoebox rooms, or recorded ones.

Every response is stored *aligned*: its direct sound, the largest peak, has amplitude 1 and lies at sample `LEAD`.
Convolving and dropping the first `LEAD` samples therefore leaves the dry speech in time with the wet one.
The target of a mixture keeps the early part: everything up to 50 ms after the direct sound (CRUSE paper, section 3).
"""

from collections.abc import Sequence

import numpy as np

from dnslib.sampling import SAMPLE_RATE

LEAD = 40  # samples, 2.5 ms: half of the fractional-delay filter of the simulation
EARLY = SAMPLE_RATE // 20  # samples, 50 ms
LONGEST = SAMPLE_RATE * 8 // 10  # samples, 0.8 s


def align(response: np.ndarray) -> np.ndarray:
    """The response cut and scaled so that sample `LEAD` is its largest peak, 1; at most `LONGEST` taps after it."""
    response = np.asarray(response, dtype=np.float64)
    peak = int(np.abs(response).argmax())
    if response.size == 0 or response[peak] == 0:
        raise ValueError("an impulse response must hold a peak, not silence")
    head = np.concatenate([np.zeros(LEAD), response])[peak : peak + LEAD]  # zeros where the recording begins too near
    return (np.concatenate([head, response[peak : peak + LONGEST]]) / response[peak]).astype(np.float32)


def simulate(seed: int | Sequence[int], longest_rt60: float = 0.7) -> np.ndarray:
    """A random shoebox room by the image method: 3 to 9 m wide, RT60 from 0.12 s, talker 0.4 to 3 m away."""
    import pyroomacoustics  # slow to import, and only needed here

    rng = np.random.default_rng(seed)
    size = rng.uniform([3.0, 2.5, 2.3], [9.0, 7.0, 3.5])  # m
    volume, surface = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    shortest = max(0.12, 0.17 * volume / surface)  # Sabine: a shorter RT60 would need walls that absorb all
    rt60 = rng.uniform(shortest, max(shortest, longest_rt60))
    absorption, _ = pyroomacoustics.inverse_sabine(rt60, size)
    room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=24)
    microphone, talker = place(rng, size)
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    return align(room.rir[0][0])


def named(*seed: int) -> tuple[str, list[np.ndarray]]:
    """Name and aligned response of a simulated room."""
    return f"room-{seed[-1]}", [simulate(seed)]


def place(rng: np.random.Generator, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Microphone and talker, each 0.4 m or more from the walls and 0.4 to 3 m from each other."""
    while True:
        microphone, talker = (rng.uniform(0.4, size - 0.4) for _ in range(2))
        if 0.4 <= np.linalg.norm(microphone - talker) <= 3.0:
            return microphone, talker
