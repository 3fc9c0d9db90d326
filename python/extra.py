"""Prints the requirements of one extra of pyproject.toml, so that make can install them without building the package."""

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
    print("\n".join(requirements(Path(__file__).with_name("pyproject.toml").read_text(), sys.argv[1])))
