"""Prints the requirements of extras of pyproject.toml, so that make can install them without building the package."""

import re
import sys
from pathlib import Path


def requirements(text: str, extra: str) -> list[str]:
    """The strings of `extra = [...]` under `[project.optional-dependencies]` (CPython 3.10 has no tomllib)."""
    section = text.split("[project.optional-dependencies]", 1)[1].split("\n[", 1)[0]
    found = re.search(rf'^{re.escape(extra)}\s*=\s*\[((?:"[^"]*"|[^"\]])*)\]', section, re.MULTILINE)
    if found is None:
        raise SystemExit(f"pyproject.toml has no extra {extra!r}")
    return re.findall(r'"([^"]+)"', found.group(1))


if __name__ == "__main__":
    text = Path(__file__).with_name("pyproject.toml").read_text()
    print("\n".join(line for extra in sys.argv[1:] for line in requirements(text, extra)))
