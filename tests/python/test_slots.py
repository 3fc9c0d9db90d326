"""Slots and their lifetime, over a lane whose other end is this test."""

from __future__ import annotations

import fcntl
import gc
import os
import threading
import time

import numpy as np
import pytest
import ringlane
from fake_lane import ASLEEP, RELEASED, SEALS, STATUS, SUBMITTED, FakeLane
from ringlane import _shim
from ringlane.enums import LaneStatus

SECOND = 1_000_000_000


def fill(lease: object) -> np.ndarray:
    return np.asarray(lease).view(np.uint64).reshape(-1, 8)


def test_a_reservation_is_one_contiguous_array_also_where_the_ring_ends() -> None:
    fake = FakeLane()
    for cursor in range(0, 640, 40):
        fake.reserve(40)
        words = fill(fake.request_lease())
        words[:] = np.arange(cursor, cursor + 40)[:, None]
        del words
        results = fake.commit()
        assert fake.client_word(SUBMITTED) == cursor + 40
        for slot in range(cursor, cursor + 40):
            at = 4096 + slot % 64 * 64
            # Only bits of fields travel: the reserved bytes were cleared.
            assert np.frombuffer(fake.requests, np.uint32, 16, at).tolist()[15] == 0
            assert int.from_bytes(fake.requests[at + 16 : at + 24], "little") == slot
            fake.results[at : at + 64] = slot.to_bytes(8, "little") * 8
        fake.complete(cursor + 40)
        assert np.array_equal(fill(results)[:, 0], np.arange(cursor, cursor + 40))
        del results


def test_reserved_slots_are_blank() -> None:
    fake = FakeLane()
    for _ in range(3):
        fake.reserve(64)
        words = fill(fake.request_lease())
        assert not words.any()
        words[:] = 2**64 - 1
        del words
        fake.commit()
        fake.complete(fake.client_word(SUBMITTED))


def test_slots_that_an_array_looks_at_are_never_used_again() -> None:
    fake = FakeLane()
    fake.reserve(10)
    slots = np.asarray(fake.request_lease())
    leaked = slots[4:5]
    del slots
    fake.commit()
    fake.complete(10)
    fake.reserve(54)
    fake.commit()
    fake.complete(64)
    begin = time.monotonic()
    with pytest.raises(ringlane.LaneFull, match=r"slots 0 to 9 .* 1 array"):
        fake.reserve(1, SECOND // 10)
    assert 0.09 < time.monotonic() - begin < 2
    with pytest.raises(ringlane.LaneFull, match="slots 0 to 9"):
        fake.shim.call(1)  # without a timeout: after a moment's grace
    del leaked
    assert fake.reserve(64, 0) == 64


def test_somebody_who_waits_for_slots_gets_them_when_the_last_array_goes() -> None:
    fake = FakeLane()
    fake.reserve(64)
    results = fake.commit()
    fake.complete(64)
    array = [np.asarray(results)]
    del results
    threading.Timer(0.2, array.clear).start()
    begin = time.monotonic()
    assert fake.reserve(1, 5 * SECOND) == 64
    assert 0.1 < time.monotonic() - begin < 2


def test_an_abandoned_reservation_never_was_and_its_arrays_turn_private() -> None:
    fake = FakeLane()
    fake.reserve(8)
    leaked = fill(fake.request_lease())
    leaked[:] = 7
    fake.abandon()
    assert fake.client_word(SUBMITTED) == 0
    assert fake.reserve(8, 0) == 0
    leaked[:] = 9
    words = fill(fake.request_lease())
    assert not words.any()
    words[:] = 3
    assert (leaked == 9).all()
    assert fake.requests[4096 : 4096 + 8] == (3).to_bytes(8, "little")
    del leaked
    gc.collect()
    assert (words == 3).all()


def test_one_reservation_a_lane_and_thread() -> None:
    fake = FakeLane()
    fake.reserve(1)
    with pytest.raises(ringlane.RinglaneError, match="already fills a reservation"):
        fake.reserve(1)
    with pytest.raises(ringlane.RinglaneError, match="already fills a reservation"):
        fake.shim.call(1)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(fake.reserve(1, 5 * SECOND)))
    thread.start()
    time.sleep(0.05)
    assert not got
    fake.commit()
    thread.join()
    assert got == [1]


def test_counts_that_cannot_be() -> None:
    fake = FakeLane()
    for count in (-1, 0, 65):
        with pytest.raises(ValueError, match="1 to 64 slots"):
            fake.reserve(count)
    with pytest.raises(ringlane.RinglaneError, match="no reservation"):
        _shim.Hold(fake.shim, 1).__exit__(None, None, None)
    with pytest.raises(ValueError, match="never submitted"):
        fake.shim.wait(1)


def test_a_wait_ends_with_its_timeout_and_the_slot_is_free_once_it_is_completed() -> None:
    fake = FakeLane(timeout_ns=SECOND // 20)
    for _ in range(3):
        with pytest.raises(TimeoutError, match="slot"):
            fake.shim.call(1)
    assert fake.shim.cursors[:3] == (3, 0, 0)
    fake.complete(3)
    assert fake.shim.cursors[:3] == (3, 3, 3)


def test_a_sleeping_sidecar_hears_the_doorbell() -> None:
    fake = FakeLane(timeout_ns=1)
    fake.set_word(ASLEEP, 1)
    with pytest.raises(TimeoutError):
        fake.shim.call(1)
    assert os.read(fake.doorbell_fd, 8) == (1).to_bytes(8, "little")


def test_released_is_told_in_time_and_never_above_completed() -> None:
    fake = FakeLane()
    for cursor in range(1, 300):
        fake.reserve(1)
        fake.commit()
        released = fake.client_word(RELEASED)
        assert cursor - released <= 64
        assert released < cursor
        fake.complete(cursor, notify=False)


@pytest.mark.parametrize("status", [s for s in LaneStatus if s not in (LaneStatus.CLOSED, LaneStatus.SHUTTING_DOWN)])
def test_a_fault_is_told_in_words_to_who_waits_and_who_comes(status: LaneStatus) -> None:
    fake = FakeLane()

    def end() -> None:
        fake.set_word(STATUS, status)
        fake.notify.send(b"\0")

    threading.Timer(0.1, end).start()
    for attempt in (lambda: fake.shim.call(1), lambda: fake.reserve(1), fake.shim.check):
        with pytest.raises(ringlane.LaneFaulted, match=f"{status.name} .{status.value}.*{str(status.__doc__)[:20]}"):
            attempt()


def test_completed_results_outlive_the_sidecar() -> None:
    fake = FakeLane()
    fake.reserve(2)
    results = fake.commit()
    fake.complete(1)
    fake.notify.close()
    fake.shim.wait(1)
    with pytest.raises(ringlane.SidecarLost):
        fake.shim.wait(2)
    with pytest.raises(ringlane.SidecarLost):
        fake.reserve(1)
    assert len(np.asarray(results)) == 2


def test_regions_are_believed_only_when_sealed_sized_and_headed_right() -> None:
    with pytest.raises(ringlane.SchemaMismatch, match="results region lacks seals"):
        FakeLane(seals=(SEALS, SEALS))
    with pytest.raises(ringlane.SchemaMismatch, match="requests region lacks seals"):
        FakeLane(seals=(fcntl.F_SEAL_GROW, SEALS))

    def wrong_header(lane: FakeLane) -> None:
        lane.results[32:40] = bytes(8)

    with pytest.raises(ringlane.SchemaMismatch, match="header of the results"):
        FakeLane(before_seal=wrong_header)

    def wrong_size(lane: FakeLane) -> None:
        os.ftruncate(lane.requests_fd, 1 << 20)

    with pytest.raises(ringlane.SchemaMismatch, match="has 1048576 bytes"):
        FakeLane(before_seal=wrong_size)


def test_results_cannot_be_written() -> None:
    fake = FakeLane()
    fake.reserve(1)
    array = np.asarray(fake.commit())
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_call_checks_its_numbers_by_field() -> None:
    fake = FakeLane(timeout_ns=1)
    for arguments, words in [
        ((256,), "op must be 0 to 255"),
        ((1, -1), "side must be 0 to 255"),
        ((1, 1, 1, 1, 2**32), "symbol must be 0 to 4294967295"),
        ((1, 1, 1, 1, 1, 1, 0, 2**64), "client_order_id must be 0 to"),
        ((1, 1, 1, 1, 1, 1, 0, 1, 2**63), "price must be -"),
        ((1, 1, 1, 1, 1, 1, 0, 1, -(2**63) - 1), "price must be -"),
    ]:
        with pytest.raises(ValueError, match=words):
            fake.shim.call(*arguments)
    for arguments, words in [(("1",), "op: "), ((1.5,), "op: "), ((1,) * 14, "at most 13 arguments")]:
        with pytest.raises(TypeError, match=words):
            fake.shim.call(*arguments)
    with pytest.raises(TypeError):
        fake.shim.call(op=1)
    assert fake.client_word(SUBMITTED) == 0
    with pytest.raises(TimeoutError):
        fake.shim.call(np.uint8(3), 1, 0, 0, 1, 1, 0, 2**64 - 1, -1, -(2**63))
    record = fake.requests[4096 : 4096 + 64]
    assert record == bytes([3, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) + b"\xff" * 16 + bytes(
        7
    ) + b"\x80" + bytes(24)


def test_followers_wake_with_their_leader(seed: int) -> None:
    fake = FakeLane()
    fake.reserve(64)
    fake.commit()
    order = np.random.default_rng(seed).permutation(64) + 1
    woken: list[int] = []

    def wait(target: int) -> None:
        fake.shim.wait(target, 10 * SECOND)
        woken.append(target)

    threads = [threading.Thread(target=wait, args=(int(target),)) for target in order]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    answered = 0
    for cursor in range(1, 65):
        # As the sidecar does: one notification a value of `waiting`, when it is reached.
        fake.complete(cursor, notify=False)
        waiting = fake.client_word(512)
        if waiting not in (0, answered) and waiting <= cursor:
            answered = waiting
            fake.notify.send(b"\0")
        time.sleep(0.001)
    begin = time.monotonic()
    for thread in threads:
        thread.join()
    assert sorted(woken) == list(range(1, 65))
    assert time.monotonic() - begin < 1
