"""
Load against this package and its peers, side by side. What each part measures is said at the top
of its module.
"""

from __future__ import annotations

import argparse

from benchmarks import fanout, groups, requests

PARTS = {"requests": requests.run, "groups": groups.run, "fanout": fanout.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="parts to run")
    parser.add_argument("--databases", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--subjects", nargs="+", default=["rest_channels", "dcrf", "plain"])
    parser.add_argument("--kinds", nargs="*", default=["retrieve", "list", "create", "update"])
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--no-slow", dest="slow", action="store_false")
    parser.add_argument("--members", nargs="*", type=int, default=[*groups.TARGETS])
    parser.add_argument("--subscribers", nargs="*", type=int, default=[*fanout.TARGETS])
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--no-levers", dest="levers", action="store_false")
    parser.add_argument("--no-growth", dest="growth", action="store_false")
    parser.add_argument(
        "--quick", action="store_true", help="requests once, a second each, 64 connections"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.connections = 1, 1, [64]
        options.growth = options.memory = False
    for part in options.only:
        PARTS[part](options)


if __name__ == "__main__":
    main()
