"""The Python backend: `ringlane.connect(backend="python")`, or `RINGLANE_BACKEND=python` in the environment.

The same client and lanes without a sidecar: a plain order book, hashlib, numpy, all in this process. For development where
no sidecar can run, and as an oracle: the tests send one stream to both and compare every result, event and query.

Orders: NEW (limit, market, stop, stop-limit; GTC, IOC, FOK; post-only, reduce-only, icebergs), CANCEL, REDUCE, REPLACE, TAKE_OVER and CANCEL_ALL, with
the sidecar's checks, codes and events, self-trade prevention included. DAY and GTD orders, rates and limits in one
symbol raise `NotImplementedError`. Sequence numbers count requests only: a sidecar also numbers time and lanes.

>>> import ringlane
>>> with ringlane.connect(backend="python") as client, client.open("orders") as lane:
...     sell = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=1, price="150", quantity=10)
...     buy = lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=1, price="150", quantity=4)
...     rested, bought = lane.process(sell), lane.process(buy)
...     int(bought["filled_quantity"][0]), lane.events()["quantity"].tolist()
(4, [4])
"""

from .client import PlainClient, make_venue
from .venue import Venue

__all__ = ["PlainClient", "Venue", "make_venue"]
