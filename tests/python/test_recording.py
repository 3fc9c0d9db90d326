"""A recording outlives mistakes: configurations that do not fit, damaged bytes, leftovers, a place that is taken."""

from pathlib import Path
from unittest import mock

import pytest
from daemon import CONFIG, Daemon
from plain_client import PlainClient

TWO = '[[orders.instruments]]\nname = "RING"\n[[orders.instruments]]\nname = "LANE"\n'
ONE = '[[orders.instruments]]\nname = "RING"\n'


def start(directory: Path, text: str = "", **options) -> Daemon:
    """A sidecar with more in its configuration, which records to `directory/journal`."""
    with mock.patch("daemon.CONFIG", CONFIG + text):
        return Daemon(directory, **options)


def refused(directory: Path, text: str = "", **options) -> str:
    """The words with which a sidecar refuses to start."""
    daemon = start(directory, text, **options)
    before = len(daemon.words())
    assert daemon.process.wait(20) == 2, daemon.words()
    daemon.stop()
    return daemon.words()[before:]


def accounts(first: int, last: int) -> str:
    return f"[[orders.accounts]]\nfirst = {first}\nlast = {last}\n"


# ---- the configuration ----


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ONE + ONE, "RING stands in the list twice"),
        (ONE + f"tick = {1 << 36}\n", "tick 1 to 68719476735"),
        (ONE + f"lot = {1 << 27}\n", "lot 1 to 134217727"),
        (ONE + f"reference_price = {1 << 36}\n", "reference_price 0 to 68719476735"),
    ],
)
def test_a_typo_in_the_configuration_leaves_the_journal_usable(tmp_path, wrong, words):
    assert words in refused(tmp_path, wrong)
    daemon = start(tmp_path, TWO).ready()
    PlainClient(daemon.address).close()
    assert daemon.stop() == 0
    assert daemon.replay()["torn"] is None
