"""The line that a person sees while a notebook runs."""

import pytest

from dnslib.study.console import running_line


@pytest.mark.parametrize(
    ("elapsed", "expected", "later", "status", "said"),
    [
        (
            12,
            40,
            152,
            "CRUSE32: 120 of 200, 30 s left\n",
            "12 s of about 40 s · all done in about 3 min 00 s · CRUSE32: 120 of 200, 30 s left",
        ),
        (50, 40, 30, "", "50 s · all done in about 30 s"),  # slower than the last time
        (12, None, 30, "", "12 s"),
        (12, 40, None, "", "12 s of about 40 s"),
    ],
)
def test_the_line_of_a_running_notebook(elapsed, expected, later, status, said):
    assert running_line("[2/10] 04_1", elapsed, expected, later, status) == f"[2/10] 04_1  {said}"
