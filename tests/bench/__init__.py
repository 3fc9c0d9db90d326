"""What Ringlane costs, beside what its users would take instead and beside what the machine allows at best.

`make bench`, or `make bench ARGS='--only NAME'`, or from `tests/` `../.venv/bin/python -m bench [--quick]`. Peers and
limits are measured in the same run, in turns with Ringlane: at least five pairs a row, and the median of the pairs'
ratios is the row's ratio. The results are a table, `target/bench/report.json`, `target/bench/report.html` and
`target/bench/report.svg`.

One file in `rows/` a family of rows; `measure.py` how time is taken, `sidecars.py` what is measured, `limits.py` and
`peers.py` what it is compared to, `report.py`, `plot.py` and `page.py` what is shown.
"""
