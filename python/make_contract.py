#!/usr/bin/env python3
"""Writes src/tributary/contract.py, the types of the control API, from docs/openapi.json.

    python3 python/make_contract.py            writes the file
    python3 python/make_contract.py --check    says whether it is as the contract has it

Every object of the contract becomes a TypedDict, every closed list of words a Literal. A variant of `EventView` becomes
a type of its own that its `kind` tells from the others.
"""

import json
import pathlib
import sys
import textwrap
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
CONTRACT = HERE.parent / "docs" / "openapi.json"
TARGET = HERE / "src" / "tributary" / "contract.py"
PLAIN = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}

Schema = dict[str, Any]


def type_of(schema: Schema) -> str:
    """The Python type of a schema; an object in place becomes the type of the name that it stands under."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "oneOf" in schema:
        return " | ".join(type_of(part) for part in schema["oneOf"])
    if "enum" in schema:
        return "Literal[" + ", ".join(f'"{word}"' for word in schema["enum"]) + "]"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " | ".join(f"list[{type_of(schema['items'])}]" if kind == "array" else PLAIN[kind] for kind in kinds)


def sentence(schema: Schema) -> str:
    return " ".join(str(schema.get("description", "")).split()).replace("\\", "\\\\")


def comment(schema: Schema, indent: str = "") -> list[str]:
    return textwrap.wrap(sentence(schema), 105, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def fields(schema: Schema, names: list[str]) -> list[str]:
    lines = []
    for name in names:
        part = schema["properties"][name]
        lines += [*comment(part, "    "), f"    {name}: {type_of(part)}"]
    return lines


def typed_dict(name: str, schema: Schema, bases: list[str]) -> list[str]:
    """One class, or two where some keys may be missing."""
    required = [key for key in schema["properties"] if key in schema.get("required", [])]
    optional = [key for key in schema["properties"] if key not in required]
    about = textwrap.wrap(sentence(schema) or f"{name} of the contract.", 95)
    doc = [f'    """{about[0]}', *(f"    {line}" for line in about[1:])]
    doc[-1] += '"""'
    base, always = ", ".join(bases or ["TypedDict"]), f"_{name}Always"
    if not optional:
        return [f"class {name}({base}):", *doc, "", *fields(schema, required), "", ""]
    first = [f"class {always}({base}):", *(fields(schema, required) or ["    pass"])]
    second = [f"class {name}({always}, total=False):", *doc, "", *fields(schema, optional)]
    return [*first, "", "", *second, "", ""]


def variants(name: str, schema: Schema) -> list[str]:
    """A type for each `kind`, and their union."""
    lines, names = [], []
    for variant in schema["oneOf"]:
        kind = str(variant["properties"]["kind"]["enum"][0])
        names.append("".join(part.title() for part in kind.split("_")) + "Event")
        lines += typed_dict(names[-1], variant, [])
    union = [f"{name} = Union[", *(f"    {one}," for one in names), "]"]
    return [*lines, *comment(schema), *union, "", ""]


def declare(name: str, schema: Schema) -> list[str]:
    if "allOf" in schema:
        bases = [type_of(part) for part in schema["allOf"] if "$ref" in part]
        (own,) = [part for part in schema["allOf"] if "$ref" not in part]
        return typed_dict(name, {"description": sentence(schema), **own}, bases)
    if "oneOf" in schema and all(one.get("type") == "object" for one in schema["oneOf"]):
        return variants(name, schema)
    if schema.get("type") == "object":
        return typed_dict(name, schema, [])
    words = " ".join(type_of(schema).split())
    listed = textwrap.wrap(words.removeprefix("Literal[").removesuffix("]"), 90)
    listed = [f"    {line.rstrip(',')}," for line in listed]
    return [*comment(schema), f"{name} = Literal[", *listed, "]", "", ""]


def references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {str(schema["$ref"]).rsplit("/", 1)[-1]} if "$ref" in schema else set()
        return own.union(*(references(part) for part in schema.values()))
    return set().union(*(references(part) for part in schema)) if isinstance(schema, list) else set()


def in_order(schemas: dict[str, Schema]) -> list[str]:
    """Names such that a type stands after those that it is made of."""
    done: list[str] = []

    def visit(name: str) -> None:
        if name not in done:
            for other in sorted(references(schemas[name])):
                visit(other)
            done.append(name)

    for name in schemas:
        visit(name)
    return done


def contract() -> str:
    document = json.loads(CONTRACT.read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    lines = [
        '"""Requests and answers of the control API. Written from docs/openapi.json by',
        '`python3 python/make_contract.py`; change the contract, not this file."""',
        "",
        "from typing import Literal, TypedDict, Union",
        "",
        "# The release whose contract this is.",
        f'VERSION = "{document["info"]["version"]}"',
        "",
        "",
    ]
    for name in in_order(schemas):
        lines += declare(name, schemas[name])
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    made = contract()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(made, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != made:
        sys.exit(f"{TARGET} is not what docs/openapi.json says; run `python3 python/make_contract.py`")


if __name__ == "__main__":
    main()
