"""What was measured as Markdown tables and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cases import CASES
from matplotlib.figure import Figure

Record = dict[str, Any]
Run = dict[str, Any]

OURS = "headwise"
_OURS_COLOR, _PEER_COLOR, _INK = "#2171b5", "#9a9a9a", "#333333"


def timed(run: Run, threads: int) -> dict[str, dict[str, Record]]:
    """Records of a number of threads by case and peer, in the order of the cases."""
    found: dict[str, dict[str, Record]] = {}
    for name in CASES:
        records = {
            record["peer"]: record
            for record in run["records"]
            if record["case"] == name and record["threads"] == threads and "share" in record
        }
        if records:
            found[name] = records
    return found


def best_peer(records: dict[str, Record]) -> Record | None:
    others = [record for record in records.values() if record["peer"] != OURS]
    return min(others, key=lambda record: record["milliseconds"], default=None)


def heading(run: Run) -> list[str]:
    versions = ", ".join(f"{module} {version}" for module, version in run["versions"].items())
    return [f"Measured {run['date']} on {run['machine']}. {versions}.", ""]


def thread_counts(run: Run) -> list[int]:
    return sorted({record["threads"] for record in run["records"]})


def summary(run: Run) -> str:
    """A row for each series of cases: headwise's shares of the limit, the best peers' and the ratios of the times."""
    lines = heading(run)
    for threads in thread_counts(run):
        series: dict[str, dict[str, dict[str, Record]]] = {}
        for name, records in timed(run, threads).items():
            if OURS in records and best_peer(records):
                title, point = CASES[name].series
                series.setdefault(title, {})[point] = records
        lines += [
            f"| {_threads(threads)} | headwise | best peer | which | times as fast |",
            "|---|---|---|---|---|",
        ]
        lines += [_summary_row(title, points) for title, points in series.items()]
        lines += [""]
    return "\n".join(
        [
            *lines,
            "Share of the peak of multiply-adds, of decode of the bandwidth of memory (caches exceed it), read between "
            "the rounds; useful operations only: causal counts half of the pairs. The best peer of each case; times as "
            "fast: its time / headwise's.",
            "",
        ]
    )


def _summary_row(title: str, points: dict[str, dict[str, Record]]) -> str:
    best = [peer for records in points.values() if (peer := best_peer(records))]
    ours = [records[OURS] for records in points.values()]
    ratios = [f"{peer['milliseconds'] / own['milliseconds']:.2f}" for peer, own in zip(best, ours)]
    names = dict.fromkeys(peer["peer"] for peer in best)
    separator = " = " if title.endswith(" N") else ": "
    cells = [title + separator + " / ".join(points), _shares(ours), _shares(best), ", ".join(names), " / ".join(ratios)]
    return "| " + " | ".join(cells) + " |"


def _shares(records: list[Record]) -> str:
    return " / ".join(f"{100 * record['share']:.0f}" for record in records) + " %"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def markdown(run: Run) -> str:
    """Every time, share and error."""
    lines = heading(run)
    for threads in thread_counts(run):
        found = timed(run, threads)
        for group in dict.fromkeys(CASES[name].group for name in found):
            lines += _table(
                group, threads, {name: records for name, records in found.items() if CASES[name].group == group}
            )
    reasons = sorted(
        {
            f"- {record['peer']}: {record['unable']} ({record['group']})"
            for record in run["records"]
            if "unable" in record
        }
    )
    return "\n".join(lines + (["Not computed:", "", *reasons, ""] if reasons else []))


def _table(group: str, threads: int, found: dict[str, dict[str, Record]]) -> list[str]:
    peers = list(dict.fromkeys(peer for records in found.values() for peer in records))
    limit = "bandwidth of memory (caches exceed it)" if group == "decode" else "peak of multiply-adds"
    lines = [
        f"### {group}, {_threads(threads)}",
        "",
        f"Milliseconds, share of the {limit}, error.",
        "",
        "| case | " + " | ".join(peers) + " | best peer / headwise |",
        "|---" * (len(peers) + 2) + "|",
    ]
    for name, records in found.items():
        best, ours = best_peer(records), records.get(OURS)
        ratio = f"{best['milliseconds'] / ours['milliseconds']:.2f}" if best and ours else "–"
        cells = [_cell(records.get(peer), best) for peer in peers]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratio} |")
    return [*lines, ""]


def error_text(record: Record) -> str:
    return f"{record['error']:.0e}" if isinstance(record["error"], float) else str(record["error"])


def _cell(record: Record | None, best: Record | None) -> str:
    if record is None:
        return "–"
    text = f"{record['milliseconds']:.3g} ({100 * record['share']:.0f} %, {error_text(record)})"
    return f"**{text}**" if record is best else text


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)


def draw_shares(run: Run, threads: int, group: str) -> Figure | None:
    """Share of peak over the length, a picture for each head size: headwise and the best peer of each length."""
    found = {name: records for name, records in timed(run, threads).items() if CASES[name].group == group}
    dims = sorted({CASES[name].dim for name in found})
    if not dims:
        return None
    figure = Figure(figsize=(3.4 * len(dims) + 0.8, 3.2), layout="constrained")
    grid = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
    for axes, dim in zip(grid, dims):
        of_dim = {CASES[name].queries: records for name, records in found.items() if CASES[name].dim == dim}
        lines = {
            OURS: {length: records.get(OURS) for length, records in of_dim.items()},
            "best peer": {length: best_peer(records) for length, records in of_dim.items()},
        }
        for (label, points), color in zip(lines.items(), (_OURS_COLOR, _PEER_COLOR)):
            shares = {length: 100 * record["share"] for length, record in sorted(points.items()) if record}
            axes.plot(list(shares), list(shares.values()), marker="o", markersize=4, color=color, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(of_dim), [str(length) for length in sorted(of_dim)], fontsize=8)
        axes.minorticks_off()
        axes.set_ylim(0, 100)
        axes.set_title(f"{group}, head size {dim}", color=_INK, fontsize=10)
        axes.set_xlabel("sequence length", color=_INK)
        _finish(axes)
    grid[0].set_ylabel("% of peak", color=_INK)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_ratios(run: Run, threads: int) -> Figure | None:
    """How many times as fast as the best peer headwise is, a bar for each case."""
    ratios = {}
    for name, records in timed(run, threads).items():
        best = best_peer(records)
        if best and OURS in records:
            ratios[name] = (best["milliseconds"] / records[OURS]["milliseconds"], best["peer"])
    if not ratios:
        return None
    figure = Figure(figsize=(7.5, 0.24 * len(ratios) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    positions = range(len(ratios))
    bars = axes.barh(positions, [ratio for ratio, _ in ratios.values()], color=_OURS_COLOR, height=0.7)
    axes.bar_label(
        bars, [f"{ratio:.2f} × {peer}" for ratio, peer in ratios.values()], padding=3, fontsize=7, color=_INK
    )
    axes.axvline(1, color=_INK, linewidth=0.8)
    axes.set_yticks(positions, list(ratios), fontsize=8)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(ratio for ratio, _ in ratios.values()))
    axes.set_xlabel(f"times as fast as the best peer, {_threads(threads)}", color=_INK)
    _finish(axes)
    axes.grid(visible=False)
    return figure


def write(run: Run, folder: Path) -> list[Path]:
    """summary.md, peers.md with the details and the pictures; returns what was written."""
    written = [folder / "summary.md", folder / "peers.md"]
    written[0].write_text(summary(run), encoding="utf-8")
    written[1].write_text(markdown(run), encoding="utf-8")
    for threads in thread_counts(run):
        drawn = {f"shares-{group}": draw_shares(run, threads, group) for group in ("prefill", "causal")}
        drawn["ratios"] = draw_ratios(run, threads)
        for name, figure in drawn.items():
            if figure:
                written.append(folder / f"peers-{name}-{threads}.svg")
                figure.savefig(written[-1], facecolor="white")
    return written
