"""headwise beside PyTorch, ONNX Runtime, OpenVINO and NumPy on named cases: times, shares of the machine's limits, errors.

cmake/run peers                                   eight cases, one thread: a minute
cmake/run peers --cases all --threads 1,2         everything: a quarter of an hour
cmake/run peers --cases causal --peers torch      headwise and those peers
cmake/run peers --report build/peers/peers.json   tables and pictures of earlier runs
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import report
from cases import choose
from measure import Measurement, Settings
from peer import MODULES


def machine() -> str:
    """The processor and how many of it."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {len(os.sched_getaffinity(0))} processors"


def chosen_peers(wanted: str | None) -> set[str]:
    """Peers by comma-separated beginnings of their names; headwise always."""
    names = [name for peers in MODULES.values() for name in peers]
    beginnings = wanted.split(",") if wanted else [""]
    unknown = [word for word in beginnings if not any(name.startswith(word) for name in names)]
    if unknown:
        raise SystemExit(f"no peer begins with {', '.join(unknown)}; there are {', '.join(names)}")
    return {report.OURS} | {name for name in names if any(name.startswith(word) for word in beginnings)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="short", help='beginnings of names or groups, "short", "all"; -X leaves out')
    parser.add_argument("--peers", help="beginnings of names (default: all)")
    parser.add_argument("--threads", default="1", help="numbers of threads, such as 1,2")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="where results go")
    parser.add_argument(
        "--limits",
        type=Path,
        default=Path("build/release/bin/headwise_machine_limits"),
        help="the program that reads the machine's limits",
    )
    parser.add_argument("--list", action="store_true", help="name the chosen cases and stop")
    parser.add_argument("--report", type=Path, nargs="+", help="results of earlier runs, joined, instead of a run")
    return parser.parse_args()


def show(records: list[dict[str, Any]]) -> None:
    print(f"\n{records[0]['case']}, {records[0]['threads']} thread(s)")
    for record in sorted((record for record in records if "share" in record), key=lambda r: float(r["milliseconds"])):
        print(
            f"  {record['peer']:<20}{record['milliseconds']:>11.4f} ms {100 * record['share']:>5.1f} %  "
            f"error {report.error_text(record)}",
            flush=True,
        )
    for record in records:
        if "unable" in record:
            print(f"  {record['peer']:<20}{record['unable']}")


def joined(files: list[Path]) -> dict[str, Any]:
    """Several runs as one: the last one's machine and versions, and of each record the last."""
    runs = [json.loads(file.read_text()) for file in files]
    records = {(record["case"], record["threads"], record["peer"]): record for run in runs for record in run["records"]}
    return {**runs[-1], "records": list(records.values())}


def main() -> None:
    arguments = parse_arguments()
    cases = choose(arguments.cases)
    if arguments.list:
        for case in cases:
            print(
                f"{case.name:<36}{case.group:<10}{case.flops / 1e9:>10.4f} G operations {case.bytes_read / 1e6:>9.2f} MB"
            )
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.report:
        run = joined(arguments.report)
    else:
        run = {"date": datetime.date.today().isoformat(), "machine": machine(), "versions": {}, "records": []}
        start = time.monotonic()
        for threads in (int(number) for number in arguments.threads.split(",")):
            settings = Settings(threads, arguments.limits, chosen_peers(arguments.peers))
            with Measurement(settings) as measurement:
                run["versions"] = measurement.versions()
                for case in cases:
                    records = measurement.case(case)
                    run["records"] += records
                    show(records)
                    (arguments.folder / "peers.json").write_text(json.dumps(run, indent=1))
        print(f"\n{len(cases)} cases in {time.monotonic() - start:.0f} s")
    for path in report.write(run, arguments.folder):
        print(f"written: {path}")
    wrong = [
        record["case"]
        for record in run["records"]
        if record["peer"] == report.OURS and not (isinstance(record.get("error"), float) and record["error"] < 1e-3)
    ]
    if wrong:
        raise SystemExit(f"headwise has no answer or a wrong one: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
