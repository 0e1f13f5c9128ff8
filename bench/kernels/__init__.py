"""Timings of every kernel of the catalog: `sottovoce bench kernels`, or `python -m pytest bench/kernels` in a checkout.

workloads.py says what is timed, ceilings.py measures what the machine could do, suite.py is what pytest collects,
run.py starts it.
"""
