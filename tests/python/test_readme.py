"""The README's example works when it is pasted, and prints what its comments say."""

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_prints_what_its_comments_say():
    example = README.read_text().split("```python\n")[1].split("```")[0]
    said = [line.split("# ", 1)[1] for line in example.splitlines() if "print(" in line]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == len(said) == 2
    for line, comment in zip(printed, said, strict=True):
        assert comment.startswith(line), (line, comment)
