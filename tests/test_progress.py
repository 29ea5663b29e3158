"""Progress: the items pass unchanged; remaining time by proportion; few lines in a log."""

import pytest

from dnslib import progress
from dnslib.progress import Progress, duration, track


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_items_pass_unchanged_and_in_order():
    assert list(track(range(5))) == [0, 1, 2, 3, 4]
    assert list(track(iter("abc"), total=3, description="letters")) == ["a", "b", "c"]
    assert list(track([])) == []


def test_remaining_time_is_by_proportion():
    clock = Clock()
    loop = Progress(10, "training", clock)
    clock.now += 30
    loop.done = 3
    assert loop.remaining() == pytest.approx(70)  # 10 s a step, 7 steps left
    assert str(loop) == "training: 3 of 10, 1 min 10 s left"


def test_without_a_total_only_the_count_is_known():
    assert list(track(iter("ab"))) == ["a", "b"]
    loop = Progress(None, "", Clock())
    loop.step()
    assert str(loop) == "1 done"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_short_loop_shows_nothing(capsys):
    list(track(range(100)))
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_few_lines(capsys):
    clock = Clock()
    loop = Progress(600, "training", clock)
    for _ in range(600):  # one second a step
        clock.now += 1
        loop.step()
    loop.finish()
    lines = capsys.readouterr().out.splitlines()
    assert 600 / 30 - 2 <= len(lines) <= 600 / 30 + 1
    assert lines[-1] == "training: 600 done in 10 min 00 s"


def test_the_runner_is_told_and_nested_loops_are_both_named(tmp_path, monkeypatch):
    status, clock = tmp_path / "status", Clock()
    monkeypatch.setenv(progress.STATUS_FILE, str(status))
    monkeypatch.setattr(progress, "_active", [Progress(2, "networks", clock), inner := Progress(4, "steps", clock)])
    clock.now += 5
    inner.step()
    assert status.read_text() == "networks: 0 of 2 · steps: 1 of 4, 15 s left"


def test_while_an_item_is_long_in_coming_the_note_is_shown_anew(capsys):
    """Looked at every second for two minutes: a line every half minute, each with what the note says then."""
    clock, notes = Clock(), iter(range(1000))
    loop = Progress(2, "jobs", clock, note=lambda: f"note {next(notes)}")
    for _ in range(120):
        clock.now += 1
        loop.look()
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 5
    assert all(line.startswith("jobs: 0 of 2 · note ") for line in lines)
    assert len(set(lines)) == len(lines)


def test_no_loop_is_looked_at():
    assert progress._active == []
    progress.look()


def test_a_note_stands_in_place_of_the_time_that_is_left():
    """An hour for the first of two jobs says nothing of the second."""
    clock, notes = Clock(), iter(["", "training: 3 of 9, 2 s left"])
    loop = Progress(2, "jobs", clock, note=lambda: next(notes))
    clock.now += 3600
    loop.done = 1
    assert str(loop) == "jobs: 1 of 2"
    assert str(loop) == "jobs: 1 of 2 · training: 3 of 9, 2 s left"


def test_a_loop_left_early_is_forgotten():
    loop = track(range(10))
    next(loop)
    assert len(progress._active) == 1
    loop.close()
    assert progress._active == []


def test_in_a_terminal_other_lines_do_not_mix_with_that_of_a_loop(monkeypatch, capsys):
    monkeypatch.setattr(progress, "where", lambda: "terminal")
    monkeypatch.setattr(progress, "SILENT_SECONDS", -1.0)
    loop = track(range(3), description="files")
    next(loop)
    next(loop)
    progress.make_room()
    assert capsys.readouterr().err == "\r\x1b[Kfiles: 1 of 3, 0 s left\r\x1b[K"
    next(loop)
    loop.close()
    progress.make_room()  # no loop is there any more
    assert capsys.readouterr().err.endswith("\n")


def test_a_full_disk_does_not_stop_the_loop(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.STATUS_FILE, str(tmp_path / "no" / "such" / "folder"))
    clock = Clock()
    loop = Progress(2, "", clock)
    clock.now += 5
    loop.step()
    assert loop.done == 1
