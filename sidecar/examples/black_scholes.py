"""Opens a lane on the kernel of `black_scholes.rs`: dtypes, docs and enums come from the sidecar, nothing was installed for it.

cargo build --release -p ringlane-sidecar --example black_scholes
RINGLANE_BINARY=target/release/examples/black_scholes python sidecar/examples/black_scholes.py
"""

import numpy as np
import ringlane

with ringlane.connect() as client, client.open("black_scholes", depth=4096) as lane:
    strikes = np.arange(30.0, 55.0, 5.0)
    chain = lane.batch(spot=42.0, strike=strikes, years=0.5, rate=0.1, volatility=0.2, right="CALL")
    values = lane.process(chain)
    for strike, price, delta in zip(strikes, values["price"], values["delta"], strict=True):
        print(f"call {strike:5.1f}: {price:7.4f}, delta {delta:.4f}")
    one = lane.call(42.0, 40.0, 0.5, 0.1, 0.0, 0.2, lane.enums["Right"].PUT)
    print(f"put   40.0: {one[0]:7.4f}  ({lane.result_schema['price'].doc})")
