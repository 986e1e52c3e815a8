"""
Load against this package and its peers, side by side.

Each part's module says at its top what it measures.
"""

from __future__ import annotations

import argparse

from benchmarks import (
    capture,
    fanout,
    groups,
    instructions,
    neighbours,
    news,
    processes,
    requests,
    schema,
    soak,
    storms,
)

PARTS = {
    "capture": capture.run,
    "requests": requests.run,
    "groups": groups.run,
    "fanout": fanout.run,
    "processes": processes.run,
    "news": news.run,
    "storms": storms.run,
    "neighbours": neighbours.run,
    "instructions": instructions.run,
    "schema": schema.run,
    "soak": soak.run,
}

# Half an hour, only if it is named.
ON_REQUEST = {"soak"}

# The smallest sizes: they show whether the benchmarks run, not how fast.
QUICK = {
    "databases": ["sqlite"],
    "kinds": ["retrieve"],
    "connections": [4],
    "rounds": 1,
    "seconds": 0.3,
    "slow": False,
    "members": [20],
    "subscribers": [20],
    "burst": 20,
    "processes": [1, 2],
    "spread_over": 20,
    "audiences": [1, 20],
    "rows": [10],
    "storm": 50,
    "memory": False,
    "levers": False,
    "neighbours": ["slow"],
    "growth": False,
    "viewsets": 3,
    "minutes": 0.5,
    "soak_clients": 12,
}


def is_usual(part: str) -> bool:
    return part not in ON_REQUEST


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"all, or some of {', '.join(PARTS)}"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="the same")
    parser.add_argument("--databases", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--subjects", nargs="+", default=["rest_channels", "dcrf", "plain"])
    parser.add_argument("--kinds", nargs="*", default=["retrieve", "list", "create", "update"])
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--no-slow", dest="slow", action="store_false")
    parser.add_argument("--members", nargs="*", type=int, default=[*groups.TARGETS])
    parser.add_argument("--subscribers", nargs="*", type=int, default=[*fanout.TARGETS])
    parser.add_argument("--burst", type=int, default=300, help="saves, unless too many subscribe")
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--spread-over", type=int, default=1000, help="subscribers in all")
    parser.add_argument("--audiences", nargs="*", type=int, default=[1, 100, 1000, 10_000])
    parser.add_argument("--rows", nargs="*", type=int, default=[10, 100, 1000])
    parser.add_argument("--storm", type=int, default=10_000, help="clients that resume")
    parser.add_argument("--neighbours", nargs="*", default=neighbours.KINDS)
    parser.add_argument("--viewsets", type=int, default=200, help="of the schema")
    parser.add_argument("--minutes", type=float, default=30, help="of the soak")
    parser.add_argument("--soak-clients", type=int, default=240)
    parser.add_argument("--writes", type=float, default=20, help="a second, in the soak")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--no-levers", dest="levers", action="store_false")
    parser.add_argument("--no-growth", dest="growth", action="store_false")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"There is no part {', '.join(unknown)}.")
    for part in [*options.parts, *options.only] or [*filter(is_usual, PARTS)]:
        PARTS[part](options)


if __name__ == "__main__":
    main()
