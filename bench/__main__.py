"""`make bench`, or `python -m bench [FIGURE …]`: measures, prints a table, writes `bench/out/bench.json`.

Everything runs on loopback, bounded in requests and time; in all it takes a few minutes.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.figures import FIGURES
from bench.row import Row
from bench.servers import ROOT
from tests.databases import postgres


def main() -> None:
    wanted = sys.argv[1:] or list(FIGURES)
    unknown = sorted(set(wanted) - set(FIGURES))
    if unknown:
        sys.exit(f"there is no figure {unknown[0]!r}; there are: {', '.join(FIGURES)}")
    rows: list[Row] = []
    work = Path(tempfile.mkdtemp(prefix="bide-bench-"))
    try:
        with postgres(durable=True) as server:
            for name in wanted:
                for row in FIGURES[name](work, server.new_database):
                    rows.append(row)
                    print(line(row), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    out = ROOT / "bench" / "out"
    out.mkdir(exist_ok=True)
    (out / "bench.json").write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    missed = sum(not row.met for row in rows)
    print(f"\n{len(rows) - missed} of {len(rows)} goals met; written to bench/out/bench.json")


def line(row: Row) -> str:
    beside = f"{row.yardstick}" + (f", ratio {row.ratio:.2f}" if row.ratio is not None else "")
    value = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:,.2f}"
    return (
        f"{'met   ' if row.met else 'MISSED'}  {row.name:<52} {value:>9} {row.unit:<5}  goal {row.goal:<22} {beside}"
    )


if __name__ == "__main__":
    main()
