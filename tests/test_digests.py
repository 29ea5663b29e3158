"""Digests of code: what changes no result changes no digest."""

import pytest

from dnslib.digests import code_digest, file_digest


def test_comments_and_docstrings_do_not_count(tmp_path):
    path, digests = tmp_path / "m.py", []
    for text in ['"""One."""\nx = 1', '"""Two."""\n# why\nx =   1', "x = 1", '"""Two."""\nx = 2']:
        path.write_text(text)
        digests.append(code_digest([path]))
    assert digests[0] == digests[1] == digests[2] != digests[3]


@pytest.mark.parametrize(
    "documented", ['def f():\n    """Why."""\n    return 1', 'class C:\n    """Why."""\n    x = 1']
)
def test_a_first_docstring_does_not_count(tmp_path, documented):
    path = tmp_path / "m.py"
    path.write_text(documented)
    before = code_digest([path])
    path.write_text(documented.replace('    """Why."""\n', ""))
    assert code_digest([path]) == before
    path.write_text(documented.replace('"""Why."""', "2"))
    assert code_digest([path]) != before


@pytest.mark.parametrize("text", ["def f(x):\n    return -x", "def f(y):\n    return y", "def g(x):\n    return x"])
def test_every_change_of_what_a_function_does_or_is_called_counts(tmp_path, text):
    path = tmp_path / "m.py"
    path.write_text('def f(x):\n    """Identity."""\n    return x')
    before = code_digest([path])
    path.write_text(text)
    assert code_digest([path]) != before


def test_names_and_order_of_files_count_and_other_files_by_their_content(tmp_path):
    one, other, weights = tmp_path / "one.py", tmp_path / "other.py", tmp_path / "w.safetensors"
    one.write_text("x = 1")
    other.write_text("x = 1")
    weights.write_bytes(b"123")
    assert len({code_digest(files) for files in ([one], [other], [one, other], [other, one], [one, weights])}) == 5
    before = code_digest([weights])
    weights.write_bytes(b"1234")
    assert code_digest([weights]) != before


def test_a_missing_file_has_no_digest(tmp_path):
    assert file_digest(tmp_path / "none") == ""
