"""What the tests share: the samples, the repository, and whether the programs are there."""

import json
import os
import pathlib
import shutil
import unittest
from typing import Any

SAMPLES = pathlib.Path(__file__).resolve().parent / "samples"
REPOSITORY = SAMPLES.parent.parent.parent
SHARDS = REPOSITORY / "trainer" / "assets" / "shards"

# Where the variable is set the programs must be there; a test then fails in their absence.
needs_programs = unittest.skipUnless(
    os.environ.get("TRIBUTARY_BIN_DIR") or shutil.which("tributary-sim"),
    "the programs are neither in TRIBUTARY_BIN_DIR nor on the PATH",
)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))
