"""Every row of the report; importing a family enters its rows in the order in which they are shown."""

from bench.rows import (  # noqa: F401, I001
    round_trip,
    throughput,
    journal,
    latency,
    fairness,
    memory,
    market,
    idle,
    lanes,
    observability,
    instructions,
    kernel,
    traces,
    replay,
    recovery,
    vectors,
    digests,
)
