"""The LOBSTER importer and player on files made here, and that the proof goes red when a file or the book is wrong.

The days themselves are played by `lobster_proof.py`; through a sidecar when one is built.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import lobster_proof
import pytest
from lobster_made import make_day, write_zip
from plain_book import PlainBook
from ringlane.connections import connect
from ringlane.lobster import LobsterDay, LobsterError, Prescan, read_day
from ringlane.lobster_lane import LaneVenue, day_config
from ringlane.lobster_player import Fill, Levels, LobsterReport, play
from ringlane.sidecar import Sidecar

MESSAGES = [
    "34200.1,5,0,1,2000000,1",
    "34200.2,1,11,20,1999900,1",
    "34200.3,4,11,5,1999900,1",
    "34200.3,4,11,15,1999900,1",
]
ROWS = ["2000100,7,1999800,30", "2000100,7,1999900,20", "2000100,7,1999900,15", "2000100,7,1999800,30"]


def plain_play(book: Callable[[], PlainBook] = PlainBook) -> lobster_proof.Play:
    return lambda day, grouped: play(day, book(), grouped)


def small(path: Path, messages: list[str] = MESSAGES, rows: list[str] = ROWS, levels: int = 1) -> Path:
    write_zip(path, levels, messages, rows)
    return path


def test_reads_columns_and_sides(tmp_path: Path) -> None:
    day = read_day(small(tmp_path / "day.zip"))
    assert (day.ticker, day.date, day.levels, day.messages, day.tick) == ("MADE", "2020-01-02", 1, 4, 100)
    assert day.times_ns.tolist() == [34_200_100_000_000, 34_200_200_000_000, 34_200_300_000_000, 34_200_300_000_000]
    assert (day.types.tolist(), day.ids.tolist(), day.sizes.tolist()) == ([5, 1, 4, 4], [0, 11, 11, 11], [1, 20, 5, 15])
    assert day.directions.tolist() == [1] * 4
    assert day.asks[:, 0].tolist() == [[2_000_100, 7]] * 4
    assert day.bids[:, 0, 1].tolist() == [30, 20, 15, 30]


def test_nanoseconds_are_exact(tmp_path: Path) -> None:
    messages = [line.replace("34200.1", "57599.000000001", 1) for line in MESSAGES[:1]]
    day = read_day(small(tmp_path / "day.zip", messages, ROWS[:1]))
    assert day.times_ns.tolist() == [57_599_000_000_001]


def test_prescan_knows_who_stood_there(tmp_path: Path) -> None:
    messages = [
        "1.0,5,0,1,2000000,1",
        "1.1,1,50,10,1999800,1",
        "1.2,4,20,5,1999800,1",
        "1.3,2,20,3,1999800,1",
        "1.4,3,50,10,1999800,1",
        "1.5,3,21,8,1999800,1",
        "1.6,1,60,8,1999800,1",
        "1.7,3,60,8,1999800,1",
    ]
    rows = [f"2000100,7,{bid}" for bid in ("1999800,30", "1999800,40", "1999800,35", "1999800,32", "1999800,22")]
    rows += ["2000100,7,1999700,3", "2000100,7,1999800,8", "2000100,7,1999700,3"]
    day = read_day(small(tmp_path / "day.zip", messages, rows))
    # 50 was added later, 60 after the level had gone; 21 emptied it.
    assert Prescan(day).orders(0, 1, 1_999_800) == [(20, 8), (21, 8)]
    assert Prescan(day).orders(0, -1, 2_000_100) == []


@pytest.mark.parametrize("levels", [1, 2, 5, 10])
@pytest.mark.parametrize("sparse", [False, True])
def test_made_days_are_reproduced(tmp_path: Path, levels: int, sparse: bool) -> None:
    for seed in range(3):
        day = read_day(make_day(tmp_path / f"{seed}.zip", seed, levels, sparse=sparse))
        for grouped in (False, True) if levels >= 5 else (False,):
            report = play(day, PlainBook(), grouped)
            assert report.good, (seed, report.line, report.differences)
            assert not report.exceptions, (seed, report.exception_texts)
            assert report.aggressors > 50, (seed, report.line)
            assert grouped or report.rows == day.messages - 1


def test_a_group_is_one_aggressor(tmp_path: Path) -> None:
    day = read_day(make_day(tmp_path / "day.zip", 1, 5))
    single, grouped = play(day, PlainBook()), play(day, PlainBook(), grouped=True)
    assert single.aggressors > grouped.aggressors > 0
    assert single.rows > grouped.rows
    assert grouped.line.startswith("file=day.zip mode=grouped rows=")


def test_skipped_heads_are_counted_and_nothing_else_differs(tmp_path: Path) -> None:
    day = read_day(make_day(tmp_path / "day.zip", 3, 5, skips=4))
    report = play(day, PlainBook())
    assert report.good
    assert (report.exceptions, report.exception_rows, len(report.exception_texts)) == (4, 0, 4)


def test_no_compared_value_is_taken_from_the_same_row(tmp_path: Path) -> None:
    """Sizes of rows are changed in turn: the player must notice each, unless the row is first to show the level."""
    base = read_day(make_day(tmp_path / "day.zip", 5, 5, messages=300))
    report = play(base, PlainBook())
    assert report.good
    noticed = 0
    rows = range(1, base.messages, 7)
    for row in rows:
        for side in (base.asks, base.bids):
            # The deepest level may be new in this row; every other one must have been known before.
            level = row % (base.levels - 1)
            side[row, level, 1] += 1
            noticed += play(base, PlainBook()).exact < report.exact
            side[row, level, 1] -= 1
    assert noticed == 2 * len(rows)


class ShowsWrongSize(PlainBook):
    """Counts one share too many at the second best bid."""

    def book(self, levels: int) -> tuple[Levels, Levels]:
        bids, asks = super().book(levels)
        return [(price, size + (at == 1)) for at, (price, size) in enumerate(bids)], asks


class HidesLevel(PlainBook):
    """Does not show the deepest level."""

    def book(self, levels: int) -> tuple[Levels, Levels]:
        bids, asks = super().book(levels)
        return bids, asks[: levels - 1]


class LastComesFirst(PlainBook):
    """Trades with the youngest order first."""

    def take(self, direction: int, price: int, size: int) -> list[Fill]:
        self.resting = dict(reversed(self.resting.items()))
        fills = super().take(direction, price, size)
        self.resting = dict(reversed(self.resting.items()))
        return fills


class ReduceLosesPriority(PlainBook):
    """Sends a reduced order to the end of its queue."""

    def reduce(self, order_id: int, size: int) -> str:
        answer = super().reduce(order_id, size)
        if order_id in self.resting:
            self.resting[order_id] = self.resting.pop(order_id)
        return answer


class IgnoresCancels(PlainBook):
    """Says yes and keeps the order."""

    def cancel(self, order_id: int) -> str:
        return ""


class FillsAtTakersPrice(PlainBook):
    """Reports the taker's limit as the price of each fill."""

    def take(self, direction: int, price: int, size: int) -> list[Fill]:
        return [fill._replace(price=price + 100) for fill in super().take(direction, price, size)]


class RefusesAll(PlainBook):
    """Rejects every new order."""

    def add(self, order_id: int, direction: int, price: int, size: int) -> str:
        return "BOOK_FULL"


WRONG_BOOKS = [
    ShowsWrongSize,
    HidesLevel,
    LastComesFirst,
    ReduceLosesPriority,
    IgnoresCancels,
    FillsAtTakersPrice,
    RefusesAll,
]


@pytest.mark.parametrize("book", WRONG_BOOKS, ids=lambda book: book.__name__)
def test_the_proof_goes_red_on_a_wrong_book(
    book: type[PlainBook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_day(tmp_path / "day.zip", 2, 5)
    monkeypatch.setenv("RINGLANE_LOBSTER_DIR", str(tmp_path))
    assert lobster_proof.main(plain_play()) == 0
    assert capsys.readouterr().out.endswith("2 passed, 0 failed, 0 skipped\n")
    assert lobster_proof.main(plain_play(book)) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert not out.endswith(" 0 failed, 0 skipped\n")


def test_the_proof_wants_the_known_exceptions_exactly(tmp_path: Path) -> None:
    day = read_day(small(tmp_path / "day.zip"))
    known = LobsterDay(**{**vars(day), "ticker": "AMZN", "date": "2012-06-21", "levels": 5})
    right = LobsterReport("x", "message", rows=155_934, exact=155_934, aggressors=8_974, exceptions=9)
    assert lobster_proof.faults(known, right) == []
    for exceptions in (8, 10):
        right.exceptions = exceptions
        assert lobster_proof.faults(known, right)
    assert lobster_proof.faults(day, right) == []  # An unknown file: 10 of 8,974 is below 0.2 %.
    right.exceptions = 18
    assert lobster_proof.faults(day, right)


def test_without_data_made_files_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGLANE_LOBSTER_DIR", str(tmp_path / "nothing"))
    assert lobster_proof.main(plain_play()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "skipped: no LOBSTER data"
    assert lines[-1] == "5 passed, 0 failed, 1 skipped"
    assert sum(line.startswith("file=") for line in lines) == 5


def test_a_damaged_file_fails_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    monkeypatch.setenv("RINGLANE_LOBSTER_DIR", str(tmp_path))
    assert lobster_proof.main(plain_play()) == 1
    assert capsys.readouterr().out.endswith("0 passed, 1 failed, 0 skipped\n")


def test_made_days_through_a_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RINGLANE_LOBSTER_DIR", str(tmp_path / "nothing"))
    assert lobster_proof.main() == 0, capsys.readouterr().out


def test_the_proof_goes_red_on_a_strange_order_in_the_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One share that the day does not have, at the best bid of the first row: the sidecar's own book must show it."""

    def disturbed_play(day: LobsterDay, grouped: bool) -> LobsterReport:
        with Sidecar(config=day_config(day)) as sidecar, connect(sidecar.address) as client:
            venue = LaneVenue(client, day.ticker)
            assert venue.add(1 << 59, 1, int(day.bids[0, 0, 0]), 1) == ""
            return play(day, venue, grouped)

    make_day(tmp_path / "day.zip", 2, 1, messages=300)
    monkeypatch.setenv("RINGLANE_LOBSTER_DIR", str(tmp_path))
    assert lobster_proof.main(disturbed_play) == 1
    assert "FAILED row 2: the book shows bids" in capsys.readouterr().out


DAMAGES: list[tuple[str, list[str], list[str], str]] = [
    ("fewer rows", MESSAGES, ROWS[:3], "4 messages but 3 orderbook rows"),
    ("words", [*MESSAGES[:2], "34200.3,4,eleven,5,1999900,1", MESSAGES[3]], ROWS, "line 3, column 3: b'eleven'"),
    ("cut off", [*MESSAGES[:3], "34200.3,4,11"], ROWS, "line 4 has 3 columns instead of 6"),
    ("not a number", [*MESSAGES[:3], "34200.3,4,11,nan,1999900,1"], ROWS, "line 4, column 4: b'nan'"),
    ("other columns", ["1,2,3"], ROWS[:1], "line 1 has 3 columns instead of 6 or 7"),
    ("other levels", MESSAGES, [row + ",1,1,1,1" for row in ROWS], "line 1 has 8 columns instead of 4"),
    ("empty", [], [], "is empty"),
    ("type", [MESSAGES[0].replace(",5,", ",9,")], ROWS[:1], "the type is not 1 to 7"),
    ("direction", [MESSAGES[1][:-1] + "2"], ROWS[:1], "the direction is neither 1 nor -1"),
    ("size", [MESSAGES[1].replace(",20,", ",0,")], ROWS[:1], "the size is not 1 to"),
    ("price", [MESSAGES[1].replace("1999900", "-5")], ROWS[:1], "the price is not 1 to"),
    ("id", [MESSAGES[1].replace(",11,", ",0,")], ROWS[:1], "the order id is not 1 to"),
    ("time", [MESSAGES[1], MESSAGES[0]], ROWS[:2], "line 2: the time goes backwards"),
    (
        "book price",
        MESSAGES,
        [*ROWS[:3], "2000100,7,-3,30"],
        "line 4: the bid side has a level without a possible price",
    ),
    ("half empty", MESSAGES, ["2000100,0,1999800,30", *ROWS[1:]], "an empty ask level does not have the price"),
]


@pytest.mark.parametrize(
    ("messages", "rows", "words"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES]
)
def test_damaged_tables_are_refused_in_words(tmp_path: Path, messages: list[str], rows: list[str], words: str) -> None:
    with pytest.raises(LobsterError, match=r"day\.zip") as caught:
        read_day(small(tmp_path / "day.zip", messages, rows))
    assert words in str(caught.value)


def test_levels_must_be_in_order_and_without_holes(tmp_path: Path) -> None:
    for row, words in (
        ("2000100,7,1999800,30,2000000,1,1999700,1", "the ask prices are not in order"),
        ("2000100,7,1999800,30,2000200,1,1999900,1", "the bid prices are not in order"),
        ("9999999999,0,1999800,30,2000200,1,1999700,1", "the ask side has a level behind an empty one"),
    ):
        with pytest.raises(LobsterError, match=words):
            read_day(small(tmp_path / "day.zip", MESSAGES[:1], [row], levels=2))


def test_other_zips_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "day.zip"
    with pytest.raises(LobsterError, match="there is no such file"):
        read_day(path)
    path.write_text("not a zip")
    with pytest.raises(LobsterError, match="not a readable zip file"):
        read_day(path)
    small(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LobsterError, match="not a readable zip file"):
        read_day(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    with pytest.raises(LobsterError, match="holds no file like"):
        read_day(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("A_2020-01-02_1_2_message_1.csv", MESSAGES[0])
        archive.writestr("B_2020-01-02_1_2_orderbook_1.csv", ROWS[0])
    with pytest.raises(LobsterError, match="not of one ticker"):
        read_day(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("C_2020-01-02_1_2_message_1.csv", MESSAGES[0])
    with pytest.raises(LobsterError, match="more than one message file"):
        read_day(path)


def test_damaged_bytes_inside_are_noticed(tmp_path: Path) -> None:
    path = make_day(tmp_path / "day.zip", 1, 1, messages=500)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(LobsterError):
        read_day(path)


def test_a_wider_message_file_is_read(tmp_path: Path) -> None:
    day = read_day(small(tmp_path / "day.zip", [line + ",null" for line in MESSAGES]))
    assert day.ids.tolist() == [0, 11, 11, 11]
