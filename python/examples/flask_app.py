"""Orders over HTTP: a Flask app with two endpoints, the book in this worker's own Python and the book of the sidecar.

    pip install 'ringlane[web]'
    gunicorn --preload --workers 2 --bind 127.0.0.1:8000 flask_app:app
    curl -H 'Content-Type: application/json' http://127.0.0.1:8000/ringlane/orders -d '{"symbol": "AAPL", "side": "BUY",
        "account": 7, "client_order_id": 1, "price": "150.25", "quantity": 100}'

`/python/orders` has a book in each worker: what one worker rests, the other never sees. `/ringlane/orders` has one book for all.

A 503 says "again, later": send the same order with the same `client_order_id`. If it had come through after all, the answer is a
422 with the code DUPLICATE_ORDER_ID while it rests; `last_client_order_id` of GET /orders/<account> says it in any case, for clients
that count their ids upwards.
"""

import os
import threading
from typing import Any

import ringlane
from flask import Flask, jsonify, request

app = Flask(__name__)

# At preload, in gunicorn's master: finds the host's sidecar, or starts one, and the workers that fork from it use the same.
ringlane.shared()


class Desk:
    """This process's lane: opened at first use, so after the fork, and anew when the sidecar was started again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: ringlane.Client | None = None
        self._lane: Any = None

    def client(self) -> ringlane.Client:
        return ringlane.shared()

    def lane(self) -> Any:
        with self._lock:
            client = self.client()
            if client is not self._client:
                self._lane, self._client = client.open("orders", depth=4096, timeout=5), client
            return self._lane


class PythonDesk(Desk):
    """The same in plain Python."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = ringlane.connect(backend="python")

    def client(self) -> ringlane.Client:
        return self._plain


DESK, PYTHON_DESK = Desk(), PythonDesk()


def entered(desk: Desk) -> Any:
    """Enters the order that the request's JSON describes, in the words of `lane.batch`."""
    lane = desk.lane()
    try:
        batch = lane.batch(**request.get_json())
    except (TypeError, ValueError) as error:
        return jsonify(error=str(error)), 400
    answer = lane.process(batch, copy=True, on_full="raise")[0]
    if answer["code"]:
        return jsonify(code=ringlane.RejectCode(answer["code"]).name, error=ringlane.explain(answer)), 422
    state = ringlane.OrderState(answer["state"]).name
    filled = int(answer["filled_quantity"])
    return jsonify(order_id=int(answer["order_id"]), state=state, filled=filled, worker=os.getpid())


@app.post("/ringlane/orders")
def ringlane_order() -> Any:
    """One book for all workers."""
    return entered(DESK)


@app.post("/python/orders")
def python_order() -> Any:
    """A book for this worker."""
    return entered(PYTHON_DESK)


@app.get("/orders/<int:account>")
def orders(account: int) -> Any:
    """What the account has open in the sidecar."""
    mine = DESK.client().orders(account)
    return jsonify(
        client_order_ids=mine.orders["client_order_id"].tolist(), last_client_order_id=mine.last_client_order_id
    )


@app.errorhandler(ringlane.RinglaneError)
@app.errorhandler(TimeoutError)
def later(error: Exception) -> Any:
    """Whether the order counts is not known: the same `client_order_id` makes another try safe."""
    return jsonify(error=str(error)), 503, {"Retry-After": "1"}
