"""Load against this package and its peers, side by side: `python -m benchmarks --help`."""
