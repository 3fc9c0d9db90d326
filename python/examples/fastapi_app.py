"""Orders over HTTP: a FastAPI app whose client lives as long as the app, and whose errors are HTTP's.

    pip install 'ringlane[web]'
    uvicorn fastapi_app:app --port 8000

| what happens | answer |
| --- | --- |
| the order kernel rejects it | 422 with the code and a sentence |
| `LaneFull`: more is under way than the lane has slots | 503 with `Retry-After` |
| `SidecarLost`, or none is there | 503 with `Retry-After`; the next request connects again |

Send it again after a 503 with the same `client_order_id`: a live order's id is never taken twice (DUPLICATE_ORDER_ID).
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import ringlane
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

DEPTH = int(os.environ.get("ORDERS_DEPTH", "4096"))


class Desk:
    """The app's client and lane; made anew when the sidecar is lost."""

    def __init__(self) -> None:
        self.client: ringlane.Client | None = None
        self.lane: Any = None
        self._connecting = asyncio.Lock()

    async def open_lane(self) -> Any:
        """The lane. Raises `SidecarUnavailable` while there is no sidecar."""
        async with self._connecting:
            if self.lane is None:
                self.client, self.lane = await asyncio.to_thread(self._connect)
            return self.lane

    def _connect(self) -> tuple[ringlane.Client, Any]:
        client = ringlane.connect(timeout=5)
        try:
            return client, client.open("orders", depth=DEPTH, timeout=5)
        except BaseException:
            client.close()
            raise

    def drop(self, lane: Any) -> None:
        """This lane is of no use any more; perhaps another request noticed that before."""
        if lane is self.lane and self.client is not None:
            client, self.client, self.lane = self.client, None, None
            client.close()


class Order(BaseModel):
    """An order; the price in currency, as a decimal string."""

    symbol: str
    side: str
    account: int
    client_order_id: int
    price: str
    quantity: int
    time_in_force: str = "GTC"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connects before the first request, if there is a sidecar already, and leaves after the last."""
    app.state.desk = Desk()
    with suppress(ringlane.RinglaneError, TimeoutError):
        await app.state.desk.open_lane()
    yield
    app.state.desk.drop(app.state.desk.lane)


app = FastAPI(lifespan=lifespan)


async def lane_for(request: Request) -> Any:
    """The lane, noted in the request for `lost`."""
    request.state.lane = await request.app.state.desk.open_lane()
    return request.state.lane


@app.post("/orders")
async def enter(order: Order, request: Request) -> Any:
    """Enters an order."""
    lane = await lane_for(request)
    try:
        batch = lane.batch(**order.model_dump())
    except (TypeError, ValueError) as error:
        return JSONResponse({"error": str(error)}, 400)
    answer = (await lane.submit(batch, on_full="raise"))[0].copy()
    if answer["code"]:
        code = ringlane.RejectCode(answer["code"]).name
        return JSONResponse({"code": code, "error": ringlane.explain(answer)}, 422)
    return {
        "order_id": int(answer["order_id"]),
        "state": ringlane.OrderState(answer["state"]).name,
        "filled": int(answer["filled_quantity"]),
    }


@app.get("/health")
async def health(request: Request) -> Any:
    """200 while a sidecar answers."""
    await lane_for(request)
    client: ringlane.Client = request.app.state.desk.client
    state = await asyncio.to_thread(client.state)
    return {"status": "ok", "sidecar": client.pid, "sequence": state.sequence}


@app.exception_handler(ringlane.LaneFull)
async def full(_request: Request, error: Exception) -> JSONResponse:
    """Too much at once; nothing was submitted."""
    return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})


@app.exception_handler(ringlane.RinglaneError)
@app.exception_handler(TimeoutError)
async def lost(request: Request, error: Exception) -> JSONResponse:
    """Whether the order counts is not known: another try with its id finds out."""
    if not isinstance(error, TimeoutError):
        request.app.state.desk.drop(getattr(request.state, "lane", None))
    return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
