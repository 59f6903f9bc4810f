"""Schemas: what a document says it is, and the refusal of what this package does not read.

A document names its schema as FAMILY/NUMBER, such as `sim-result/1`. The number rises when a field changes its meaning
or goes away, so a reader takes only the numbers that it was written for.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, cast

from .errors import SchemaError

Document = dict[str, Any]
PathLike = str | Path


def load(path: PathLike) -> Document:
    """The JSON object in a file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaError(
            f"cannot read {path}: {error.strerror}; give the file or folder that the program wrote"
        ) from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Document:
    """The JSON object in a text that comes from `where`."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"{where} is not JSON ({error}); give a file made with `--format json` or `--out`") from error
    if not isinstance(document, dict):
        raise SchemaError(f"{where} is not a JSON object; give a file made with `--format json` or `--out`")
    return cast(Document, document)


def expect(document: Document, where: str, *known: str) -> str:
    """The schema of a document, if it is one of `known`."""
    found = document.get("schema")
    if found in known:
        return str(found)
    reads = " or ".join(known)
    if not isinstance(found, str):
        raise SchemaError(
            f"{where} names no schema; this reads {reads}: give a file made with `--format json` or `--out`"
        )
    raise SchemaError(f"{where} has the schema {found}; this reads {reads}: {_mend(found, known)}")


def _mend(found: str, known: Iterable[str]) -> str:
    family, number = _split(found)
    for schema in known:
        name, reads = _split(schema)
        if name == family and number > reads:
            return "install the Python package of the release that wrote it"
        if name == family:
            return "write it again with the programs of this release"
    return "`tributary.read` tells what it reads of such files"


def _split(schema: str) -> tuple[str, int]:
    family, _, number = schema.rpartition("/")
    return family, int(number) if number.isascii() and number.isdigit() else 0


def require(document: Document, where: str, keys: Collection[str]) -> None:
    """Refuses a document that lacks some of the keys."""
    missing = sorted(set(keys) - set(document))
    if missing:
        raise SchemaError(
            f"{where} lacks {', '.join(missing)}: it is damaged or of another release; "
            "use the programs and the Python package of one release"
        )
