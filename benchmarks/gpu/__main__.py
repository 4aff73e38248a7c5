"""Speed and memory on one GPU, in at most eight minutes and without downloads: `python -m benchmarks.gpu`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.gpu.sections import OPTIONAL, SECTIONS, run
from benchmarks.gpu.table import Table


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument(
        "--tiny", action="store_true", help="small shapes: shows that everything runs, measures nothing"
    )
    others = f"; only when named: {', '.join(OPTIONAL)}"
    parser.add_argument("--only", nargs="+", default=[], choices=tuple(SECTIONS), help=f"sections to run{others}")
    parser.add_argument("--seconds", type=float, default=480, help="time for all; what comes later is left out")
    parser.add_argument("--out", default=os.environ.get("OUT", "runs/gpu"), help="folder of gpu.json")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("a CPU would take hours for these shapes: add --tiny")
    run(Table(Path(options.out), options.seconds), options.device, tiny=options.tiny, only=options.only)


if __name__ == "__main__":
    main()
