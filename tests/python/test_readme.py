"""The README's example works when it is pasted, and prints what its comments say; its samples of the configuration are whole."""

import re
import subprocess
import sys
from pathlib import Path

from daemon import BINARY

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


def keys_of(check, table: str, head: str) -> set[str]:
    """Every key below a table, by what is said of one that does not exist."""
    words = check(head + "no_such_key_at_all = 1\n")
    if "The keys here are: " not in words:
        return set()
    names = words.split("The keys here are: ")[1].strip().split(", ")
    found: set[str] = set()
    for name in names:
        path = f"{table}.{name}" if table else name
        below = keys_of(check, path, f"[{path}]\n") or keys_of(check, path, f"[[{path}]]\n")
        found |= below or {path}
    return found


def keys_in(sample: str) -> set[str]:
    """The keys that stand in a sample, those included that are commented out; of access rules also those that a comment names."""
    table, found = "", set()
    for line in sample.splitlines():
        if head := re.match(r"\[+([\w.]+)\]+", line):
            table = head[1] + "."
        found |= {table + name for name in re.findall(r"(\w+) = ", line)}
        if "rules" in table and "#" in line:
            found |= {table + name for name in re.findall(r"\b[a-z_]+\b", line.split("#", 1)[1])}
    return found


def test_the_samples_have_every_key_and_are_accepted(tmp_path):
    def check(text: str) -> str:
        path = tmp_path / "sample.toml"
        path.write_text(text)
        done = subprocess.run([BINARY, "config", "check", str(path)], capture_output=True, text=True, timeout=10)
        return "" if done.returncode == 0 else done.stderr

    samples = [part.split("```")[0] for part in README.read_text().split("```toml\n")[1:]]
    known = keys_of(check, "", "")
    assert {"socket", "journal.directory", "orders.accounts.first", "access.rules.users", "sentry.dsn"} <= known
    assert known - set().union(*map(keys_in, samples)) == set(), "the README's samples lack these keys"
    for sample in samples:
        named = "\n".join(line for line in sample.splitlines() if not line.startswith(("users", "groups")))
        assert check(named) == "", "a sample of the README is refused"
        # What is commented out there would be accepted too.
        uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", named)
        assert check(uncommented) == "", "a sample of the README is refused once its comments are not"
