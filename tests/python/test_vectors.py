"""Vector lanes through a real sidecar: values, statuses a row, and what opening refuses."""

import numpy as np
import pytest
import ringlane


def test_rows_are_normalised_and_a_bad_one_spoils_no_other():
    rows = np.random.default_rng(1).standard_normal((500, 96), dtype=np.float32)
    rows[3, 5], rows[7] = np.nan, 0
    with ringlane.connect() as client, client.open("vectors", dim=96, op="normalize", depth=1024) as lane:
        ticket = lane.submit(rows)
        answer = {"vector": ticket.result(), "status": ticket.status()}
        good = np.arange(500) != 3
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        assert (answer["status"] == ~good).all()
        np.testing.assert_allclose(answer["vector"][good], (rows / np.where(norms == 0, 1, norms))[good], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_pairs_are_measured(dtype):
    values = np.random.default_rng(2).integers(-127, 128, (2, 100, 33)).astype(dtype)
    left, right = values.astype(np.float64)
    expected = {
        "dot": (left * right).sum(1),
        "l2sq": ((left - right) ** 2).sum(1),
        "cosine": (left * right).sum(1) / np.sqrt((left**2).sum(1) * (right**2).sum(1)),
    }
    with ringlane.connect() as client:
        for op, wanted in expected.items():
            with client.open("vectors", dim=33, op=op, dtype=dtype, depth=128) as lane:
                np.testing.assert_allclose(lane.process(*values), wanted, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_opened_is_refused_in_words():
    with ringlane.connect() as client:
        for parameters, words in [({"dim": 0, "op": "dot"}, "dim"), ({"dim": 2, "op": "search"}, "corpus")]:
            with pytest.raises(ValueError, match=words):
                client.open("vectors", **parameters)
