"""Digests of source files: changed code never finds what earlier code made.

Comments and docstrings do not count, as no result depends on them: a better explanation costs no training.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(*texts: str) -> str:
    """Sixteen hexadecimal digits of some texts, in their order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def record_digest(record: Mapping) -> str:
    """Twelve hexadecimal digits of names and values, whatever their order: the name of a folder or file."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def file_digest(path: Path) -> str:
    """Digest of the content; empty for a missing file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def code_digest(paths: Iterable[Path]) -> str:
    """Digest of files and their names: what a Python module does counts, of any other file its content."""
    return digest(*(path.name + _digest_of(path) for path in paths))


def _digest_of(path: Path) -> str:
    if path.suffix == ".py":
        return _module_digest(path.read_text(encoding="utf-8"))
    status = path.stat()
    return _digest_as_of(path, status.st_size, status.st_mtime_ns)


@cache
def _module_digest(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return digest(ast.unparse(tree))


@cache
def _digest_as_of(path: Path, size: int, changed: int) -> str:
    """Digest of a file that may be large, such as weights: read only once as long as it does not change."""
    return file_digest(path)
