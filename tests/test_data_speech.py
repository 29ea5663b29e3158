"""Synthesised speech: the same whatever was said before, and nothing that two splits share."""

import numpy as np
import pytest

from dnslib.data import sentences, speech


def test_a_talker_does_not_depend_on_who_spoke_before():
    name, first = speech.recite("test", 1, 0, 2.0)
    speech.recite("train", 7, 0, 2.0)
    again_name, again = speech.recite("test", 1, 0, 2.0)
    assert name == again_name
    assert np.array_equal(np.concatenate(first), np.concatenate(again))


def test_every_voice_speaks():
    rms = []
    with speech.Engine(0) as engine:
        for language, locales in speech.LOCALES.items():
            for locale in locales:
                who = speech.Talker(language, locale, "m1", 160, 50, 50)
                spoken = speech.speak(engine, who, sentences.sentence(language, np.random.default_rng(0)))
                assert 1.0 < spoken.size / 16_000 < 10.0
                rms.append(np.sqrt(np.mean(spoken**2)))
    assert rms == pytest.approx([speech.RMS] * len(rms), rel=1e-4)


def test_splits_share_no_timbre_and_no_sentence():
    timbres = [timbre for split in speech.TIMBRES.values() for timbre in split]
    assert len(timbres) == len(set(timbres))
    rng = np.random.default_rng(0)
    heard = {
        split: {sentences.sentence_for(split, language, rng) for language in sentences.LANGUAGES for _ in range(40)}
        for split in speech.TIMBRES
    }
    assert not heard["train"] & heard["test"]
    assert not heard["train"] & heard["validation"]
    assert not heard["validation"] & heard["test"]


def test_long_data_path_is_reached_through_a_short_link(tmp_path):
    import contextlib

    data = tmp_path / ("x" * 130)
    data.mkdir()
    with contextlib.ExitStack() as cleanup:
        link = speech.short_path(data, cleanup)
        assert len(str(link)) <= 120
        assert link.samefile(data)
    assert not link.exists()
    assert data.exists()
