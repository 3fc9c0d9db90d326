"""Columns of pandas, polars and pyarrow go into `lane.batch` and `process` as they are, and none is looped over in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import ringlane

N = 1000
RAW: dict[str, Any] = {
    "symbol": ["AAPL" if i % 3 else "MSFT" for i in range(N)],
    "side": ["BUY" if i % 2 else "SELL" for i in range(N)],
    "account": list(range(1, N + 1)),
    "client_order_id": list(range(N)),
    "price": [f"{100 + i % 7 + (2 if i % 2 == 0 else -2) * 10}.25" for i in range(N)],
    "quantity": [1 + i % 50 for i in range(N)],
}


def of_pandas(name: str, values: list[Any]) -> Any:
    return pytest.importorskip("pandas").Series(values)


def of_pandas_arrow(name: str, values: list[Any]) -> Any:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    return pandas.Series(values).astype({int: "int64[pyarrow]", str: "string[pyarrow]"}[type(values[0])])


def of_pandas_categories(name: str, values: list[Any]) -> Any:
    series = of_pandas(name, values)
    return series.astype("category") if name in ("symbol", "side") else series


def of_polars(name: str, values: list[Any]) -> Any:
    return pytest.importorskip("polars").Series(values)


def of_pyarrow(name: str, values: list[Any]) -> Any:
    return pytest.importorskip("pyarrow").array(values)


def of_pyarrow_chunks(name: str, values: list[Any]) -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.chunked_array([values[:300], values[300:]])


MAKERS = [of_pandas, of_pandas_arrow, of_pandas_categories, of_polars, of_pyarrow, of_pyarrow_chunks]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[ringlane.Sidecar]:
    """One of its own: its trades would move the collars of others."""
    with ringlane.Sidecar() as running:
        yield running


@pytest.fixture
def deep(client: ringlane.Client) -> ringlane.Lane:
    return client.open("orders", depth=1024, timeout=30)


@pytest.mark.parametrize("make", MAKERS)
def test_columns_make_the_batch_that_lists_make(deep: ringlane.Lane, make: Callable[[str, list[Any]], Any]) -> None:
    columns = {name: make(name, values) for name, values in RAW.items()}
    batch = deep.batch(**columns)
    assert batch.tobytes() == deep.batch(**RAW).tobytes()
    answers = deep.process(batch, copy=True)
    assert (answers["code"] != int(ringlane.RejectCode.UNKNOWN_SYMBOL)).all()
    assert len(answers) == N


@pytest.mark.parametrize("make", [of_pandas, of_polars, of_pyarrow])
def test_prices_as_decimals_and_floats(deep: ringlane.Lane, make: Callable[[str, list[Any]], Any]) -> None:
    expected = deep.batch(**RAW)["price"]
    others = {name: values for name, values in RAW.items() if name != "price"}
    decimals = make("price", [Decimal(text) for text in RAW["price"]])
    assert (deep.batch(**others, price=decimals)["price"] == expected).all()
    assert (
        deep.batch(**others, price=make("price", [float(text) for text in RAW["price"]]))["price"] == expected
    ).all()
    with pytest.raises(ValueError, match="decimals"):
        deep.batch(**others, price=make("price", [Decimal("1.00001")] * N))


@pytest.mark.parametrize("make", [of_pandas, of_polars, of_pyarrow])
def test_missing_values_are_refused(deep: ringlane.Lane, make: Callable[[str, list[Any]], Any]) -> None:
    columns = {name: make(name, values) for name, values in RAW.items()}
    with pytest.raises((ValueError, TypeError), match="quantity"):
        deep.batch(**{**columns, "quantity": make("quantity", [None, *RAW["quantity"][1:]])})


@pytest.mark.parametrize("make", [of_polars, of_pyarrow, of_pandas])
def test_columns_of_numbers_are_read_without_a_copy_of_their_own(make: Callable[[str, list[Any]], Any]) -> None:
    """What numpy sees of a column without missing values is its own memory: no object, no loop."""
    column = make("quantity", RAW["quantity"])
    assert np.asarray(column).dtype == np.int64
    assert np.shares_memory(np.asarray(column), np.asarray(column))


def test_matrices_go_into_vector_lanes(client: ringlane.Client) -> None:
    """A data frame of floats is rows; an Arrow list of fixed size is, by its values."""
    rows = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), 8)
    with client.open("vectors", dim=8, op="normalize") as lane:
        expected = lane.process(rows, copy=True)
        for given in (pandas.DataFrame(rows), polars.DataFrame(rows), lists.values.to_numpy().reshape(-1, 8)):
            assert (lane.process(given, copy=True) == expected).all()
