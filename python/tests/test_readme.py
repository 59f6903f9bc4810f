"""The blocks of the README work as they stand."""

import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from common import REPOSITORY, needs_programs


@needs_programs
@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")
class Readme(unittest.TestCase):
    def test_every_python_block_works_when_pasted_one_after_the_other(self) -> None:
        text = (REPOSITORY / "python" / "README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        self.assertGreater(len(blocks), 3)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("trainer", "experiments"):
                pathlib.Path(folder, name).symlink_to(REPOSITORY / name)
            search = os.pathsep.join(path for path in sys.path if path)
            process = subprocess.Popen(
                [sys.executable, "-W", "error::FutureWarning", "-c", "\n".join(blocks)],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": search},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                printed, told = process.communicate(timeout=300)
            finally:
                # The daemons of a block that hangs are of the same group.
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            self.assertEqual(process.returncode, 0, told)
            self.assertIn("\nTrue\n", printed)
            figures = {path.name for path in pathlib.Path(folder).glob("*.png")}
            self.assertEqual(figures, {"loss.png", "scores.png", "payouts.png"})


if __name__ == "__main__":
    unittest.main()
