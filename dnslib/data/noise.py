"""Generated noises of clearly different kinds, 16 kHz, float32 ``(samples,)`` at a fixed RMS.

Every generator draws its parameters through `Draw`, which keeps part of every range for validation and part for test,
so a test noise differs from all training noises in every parameter; the kind "engine" is heard in test only.
Babble is made from the speech of the same split, hence of speakers that only this split knows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnslib.data.splits import SPLITS
from dnslib.sampling import SAMPLE_RATE

RMS = 0.05  # about -26 dBFS; peaks of impulsive kinds stay inside 16 bits
PEAK = 0.95
_PARTS = ("train", "test", "train", "train", "validation", "train", "test", "train")  # one range, cut into eight


@dataclass
class Draw:
    """Random parameters for one split: ``between`` never gives two splits the same value."""

    rng: np.random.Generator
    split: str

    def between(self, low: float, high: float) -> float:
        """A uniform value from this split's eighths of [low, high)."""
        mine = [index for index, owner in enumerate(_PARTS) if owner == self.split]
        return low + (high - low) * (self.rng.choice(mine) + self.rng.random()) / len(_PARTS)

    def log_between(self, low: float, high: float) -> float:
        """The same on a logarithmic scale, for frequencies and times."""
        return float(np.exp(self.between(np.log(low), np.log(high))))


def coloured_noise(rng: np.random.Generator, samples: int, exponent: float) -> np.ndarray:
    """Gaussian noise whose power density falls as 1 / f^exponent: 0 white, 1 pink, 2 brown, -1 blue; unit RMS."""
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20.0)  # flat below 20 Hz: no offset
    white = rng.standard_normal(frequency.size) + 1j * rng.standard_normal(frequency.size)
    noise = np.fft.irfft(white * frequency ** (-exponent / 2), samples)
    return noise / np.sqrt(np.mean(noise**2))


def envelope(rng: np.random.Generator, samples: int, rate_hz: float, depth_db: float) -> np.ndarray:
    """A slow random gain: knots at ``rate_hz``, normal in dB with spread ``depth_db``, joined smoothly."""
    knots = rng.standard_normal(int(samples / SAMPLE_RATE * rate_hz) + 4) * depth_db
    position = np.arange(samples) * rate_hz / SAMPLE_RATE
    left = position.astype(int)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return 10 ** ((knots[left] * (1 - blend) + knots[left + 1] * blend) / 20)


def coloured(draw: Draw, samples: int) -> np.ndarray:
    """Stationary: fans, air, hiss; sometimes cut to a band."""
    noise = coloured_noise(draw.rng, samples, draw.between(-0.8, 2.4))
    if draw.rng.random() < 0.5:
        from scipy import signal  # imported late: it takes two seconds, and prepared data need none of it

        low = draw.log_between(80, 1500)
        noise = signal.sosfilt(
            signal.butter(2, [low, min(low * draw.log_between(2, 20), 7500)], "bandpass", fs=SAMPLE_RATE, output="sos"),
            noise,
        )
    return noise


def modulated(draw: Draw, samples: int) -> np.ndarray:
    """Two coloured noises that swell on their own: wind, waves, passing traffic."""
    layers = (
        coloured_noise(draw.rng, samples, draw.between(0.3, 2.4))
        * envelope(draw.rng, samples, draw.log_between(0.3, 6), draw.between(4, 9))
        for _ in range(2)
    )
    return sum(layers)


def hum(draw: Draw, samples: int) -> np.ndarray:
    """Mains or motor harmonics over a little broadband noise."""
    time = np.arange(samples) / SAMPLE_RATE
    base, decay = draw.log_between(45, 220), draw.between(0.5, 1.5)
    partials = np.arange(1, int(draw.between(6, 40)))
    weight = draw.rng.random(partials.size) * partials**-decay
    phase = draw.rng.random(partials.size) * 2 * np.pi
    tones = sum(w * np.sin(2 * np.pi * base * k * time + p) for k, w, p in zip(partials, weight, phase, strict=True))
    tones = tones * envelope(draw.rng, samples, 0.5, 1.5)
    return tones / np.std(tones) + coloured_noise(draw.rng, samples, draw.between(0, 2)) * draw.between(0.05, 0.5)


def tones(draw: Draw, samples: int) -> np.ndarray:
    """Beeps, rings and sirens: short tones, pure, trilling or sweeping, over faint noise."""
    out = coloured_noise(draw.rng, samples, draw.between(0, 2)) * 0.03
    start, spacing = 0.0, draw.log_between(0.25, 1.6)
    base, sweep, trill = draw.log_between(350, 3200), draw.between(-1, 1.5), draw.log_between(2, 25)
    while start < samples / SAMPLE_RATE:
        length = int(SAMPLE_RATE * spacing * draw.between(0.3, 0.9))
        time = np.arange(length) / SAMPLE_RATE
        pitch = base * 2 ** (sweep * time / max(spacing, 0.1) + 0.15 * np.sign(np.sin(2 * np.pi * trill * time)))
        beep = np.sin(2 * np.pi * np.cumsum(np.minimum(pitch, 7000)) / SAMPLE_RATE)
        add_at(out, beep * np.minimum(1, 200 * np.minimum(time, time[::-1])), int(start * SAMPLE_RATE))
        start += spacing * draw.rng.uniform(0.9, 1.1)
    return out


def clicks(draw: Draw, samples: int) -> np.ndarray:
    """Impulses that ring: rain drops, dishes, knocks, crackle."""
    out = coloured_noise(draw.rng, samples, 1.0) * 0.02
    rate, ring = draw.log_between(1.5, 60), draw.log_between(0.003, 0.08)
    centre = draw.log_between(250, 4500)
    for start in draw.rng.integers(0, samples, draw.rng.poisson(rate * samples / SAMPLE_RATE) + 2):
        hit = struck(draw.rng, centre * 2 ** draw.rng.normal(0, 0.5), ring * draw.rng.uniform(0.5, 2), noisiness=0.5)
        add_at(out, hit * draw.rng.exponential(), start)
    return out


def keyboard(draw: Draw, samples: int) -> np.ndarray:
    """Typing: bursts of key presses, each with a softer release, over room noise."""
    out = coloured_noise(draw.rng, samples, 1.2) * 0.02
    per_second, centre, ring = draw.between(4, 11), draw.log_between(900, 4500), draw.log_between(0.004, 0.02)
    start = draw.rng.uniform(0, 0.3)
    while start < samples / SAMPLE_RATE:
        for delay, gain in ((0.0, 1.0), (draw.rng.uniform(0.06, 0.12), 0.4)):  # press, release
            hit = struck(draw.rng, centre * 2 ** draw.rng.normal(0, 0.2), ring, noisiness=0.9)
            add_at(out, gain * hit * draw.rng.uniform(0.5, 1.0), int((start + delay) * SAMPLE_RATE))
        start += draw.rng.gamma(4, 1 / (4 * per_second)) + (
            draw.rng.uniform(0.3, 1.2) if draw.rng.random() < 0.1 else 0
        )
    return out


def music(draw: Draw, samples: int) -> np.ndarray:
    """Plucked or bowed chords on a random scale, with a bass and, half of the time, a beat."""
    out = np.zeros(samples)
    beat = 60 / draw.log_between(70, 170)  # s
    root, brightness = draw.log_between(110, 330), draw.between(0.8, 2.2)
    attack, decay = draw.log_between(0.003, 0.15), draw.log_between(0.15, 1.2)
    scale = draw.rng.permutation([0, 2, 3, 5, 7, 8, 10, 12, 14])[:6]
    drums = draw.rng.random() < 0.5
    for index in range(int(samples / SAMPLE_RATE / beat) + 1):
        start = int(index * beat * SAMPLE_RATE)
        notes = [*draw.rng.choice(scale, 3), draw.rng.choice(scale) - 12]
        for note in notes if index % 2 == 0 else notes[:1]:
            add_at(out, plucked(root * 2 ** (note / 12), brightness, attack, decay), start)
        if drums:
            add_at(out, 1.5 * struck(draw.rng, 90 if index % 2 else 4000, 0.06, noisiness=0.7), start)
    return out


def engine(draw: Draw, samples: int) -> np.ndarray:
    """A motor whose speed wanders, with exhaust noise in step: heard in test only."""
    speed = draw.log_between(18, 60) * envelope(draw.rng, samples, 0.5, 2)  # turns per second
    angle = 2 * np.pi * np.cumsum(speed) / SAMPLE_RATE
    order = np.arange(1, 25)
    weight = draw.rng.random(order.size) * order**-0.7
    tone = sum(w * np.sin(k * angle + p) for k, w, p in zip(order, weight, draw.rng.random(order.size), strict=True))
    exhaust = coloured_noise(draw.rng, samples, 1.0) * (0.6 + 0.4 * np.sin(2 * angle))
    return tone / np.std(tone) + exhaust * draw.between(0.3, 1.0)


def babble(rng: np.random.Generator, speech: Callable[[int], np.ndarray], samples: int, talkers: int) -> np.ndarray:
    """``talkers`` voices at once, each within 6 dB of the others; ``speech(samples)`` gives one talker."""
    return sum(unit(speech(samples)) * 10 ** (rng.uniform(-6, 0) / 20) for _ in range(talkers))


GENERATORS: dict[str, Callable[[Draw, int], np.ndarray]] = {
    "coloured": coloured,
    "modulated": modulated,
    "hum": hum,
    "tones": tones,
    "clicks": clicks,
    "keyboard": keyboard,
    "music": music,
    "engine": engine,
}
TEST_ONLY = ("engine",)


def kinds(split: str) -> list[str]:
    """Names of the generators that ``split`` may hear."""
    return [kind for kind in GENERATORS if split == "test" or kind not in TEST_ONLY]


def generate(kind: str, split: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """One noise of a kind, float32 ``(samples,)``, at RMS 0.05 or at peak 0.95, whichever is lower."""
    return scaled(GENERATORS[kind](Draw(rng, split), samples))


def named(kind: str, split: str, index: int, seed: int, samples: int) -> tuple[str, list[np.ndarray]]:
    """Name and samples of the index-th noise of a split."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 2])
    return f"{kind}-{split}{index}", [generate(kind, split, samples, rng)]


def scaled(noise: np.ndarray) -> np.ndarray:
    """Noise at RMS 0.05 or peak 0.95, whichever is lower."""
    noise = unit(noise) * RMS
    return (noise * min(1.0, PEAK / np.abs(noise).max())).astype(np.float32)


def unit(noise: np.ndarray) -> np.ndarray:
    """Zero mean, unit RMS."""
    noise = noise - noise.mean()
    return noise / (np.sqrt(np.mean(noise**2)) + 1e-12)


def struck(rng: np.random.Generator, frequency: float, ring: float, noisiness: float) -> np.ndarray:
    """A hit: decaying sine and decaying noise, ``ring`` seconds to 1/e."""
    time = np.arange(int(6 * ring * SAMPLE_RATE) + 8) / SAMPLE_RATE
    body = np.sin(2 * np.pi * min(frequency, 7500) * time + rng.uniform(0, 2 * np.pi))
    return np.exp(-time / ring) * ((1 - noisiness) * body + noisiness * rng.standard_normal(time.size))


def plucked(frequency: float, brightness: float, attack: float, decay: float) -> np.ndarray:
    """A note of up to eight harmonics; ``attack`` and ``decay`` in seconds."""
    time = np.arange(int(4 * decay * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = [k for k in range(1, 9) if k * frequency < 7500]
    note = sum(k**-brightness * np.sin(2 * np.pi * k * frequency * time) for k in harmonics)
    return note * (1 - np.exp(-time / attack)) * np.exp(-time / decay)


def add_at(out: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Adds ``sound`` into ``out`` from ``start``; what would pass the end is dropped."""
    part = sound[: max(0, out.size - start)]
    out[start : start + part.size] += part
