"""Metrics of this process: instruments, and the figures that the package counts with them."""
