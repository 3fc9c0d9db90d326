"""Every row of the report; importing a family enters its rows in the order in which they are shown."""

from bench.rows import (
    round_trip,
    throughput,
    latency,
    fairness,
    memory,
    idle,
    lanes,
    observability,
    instructions,
    replay,
    recovery,
    vectors,
)  # noqa: F401, I001
