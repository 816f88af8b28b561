#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What compare.sh writes of its runs: comparison.md, suite.svg and workloads.svg (by gnuplot).

    comparison.py <directory of suite.json, variants.json, workloads.json and threads.json> <directory for the results>

A part that was not run is left out.
"""
import collections
import csv
import json
import pathlib
import subprocess
import sys

import report

HERE = pathlib.Path(__file__).resolve().parent
COLOURS = ("#d1495b", "#888888", "#2e86ab", "#3a7d44", "#edae49", "#7b5ea7", "#66c2a5", "#5b3a29")
JOBS = ("eval", "forward", "backward")


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def ran(path):
    return path.exists() and path.stat().st_size > 0


def notes(groups):
    """What the peers said about the code they ran, and how often."""
    said = collections.Counter()
    for runs in groups.values():
        for run in runs.values():
            said.update(note for note in run.get("label", "").split("; ") if note)
    return [f"- {note}: {count} cases" for note, count in sorted(said.items())] + [""] if said else []


def fastest_peer(run, peers):
    """(ratio, name), the smallest there is."""
    return min(((run[f"{peer}/memcpy"], peer) for peer in peers if f"{peer}/memcpy" in run), default=(None, None))


def verdicts(groups, peers):
    """The cases above their goal, and those in which a contender is faster by more than the spread."""
    missed, behind, goals, cases = [], [], 0, 0
    rivals = [*peers, "hand_loop_native", "hand_loop"]
    for (job, precision, storage), runs in groups.items():
        for run in runs.values():
            if "error_message" in run:
                continue
            name = f"{run['case']}, {job}, {precision}, {storage}"
            ours = report.spread(run, "tensornorm/memcpy")
            aim, failed = report.goal(run)
            goals += aim != "-"
            if failed:
                reached = f", {report.number(run['tensornorm:us'])} us" if "goal:us" in run else ""
                missed.append(f"- {name}: {ours}{reached}; goal {aim.removesuffix(' missed')}")
            best, rival = fastest_peer(run, rivals)
            cases += best is not None
            if best is not None and run["tensornorm/memcpy:q1"] > run[f"{rival}/memcpy:q3"]:
                behind.append(f"- {name}: {ours}; {report.NAMES.get(rival, rival)} {report.spread(run, f'{rival}/memcpy', '')}")
    return [f"### Goals missed: {len(missed)} of {goals}", "", *missed, "",
            f"### Slower than the fastest contender by more than the spread: {len(behind)} of {cases} cases", "", *behind, ""]


def workloads_table(data):
    lines = ["| network | | forward, ms | backward, ms | both, ms | to memcpy (quartiles) |", "|---|---|---:|---:|---:|---:|"]
    for run in data["benchmarks"]:
        network = " ".join(run["name"].split("/")[:2])
        for key in run:
            name = key.removesuffix("/memcpy")
            if name == key:
                continue
            parts = [run.get(f"{name}{part}:us") for part in ("/forward", "/backward", "")]
            times = [report.number(time and time / 1000) for time in parts]
            lines.append(f"| {network} | {report.NAMES.get(name, name)} | {' | '.join(times)} | {report.spread(run, key)} |")
        lines.append(f"| {network} | memcpy | - | - | {report.number(run['memcpy:us'] / 1000)} | 1 |")
    return lines + [""]


def threads_table(data):
    lines = ["| case | one thread, us | gain (quartiles) | of the computing loop's | memcpy's gain "
             "| threads, to memcpy on threads |", "|---|---:|---:|---:|---:|---:|"]
    for run in data["benchmarks"]:
        compute = run["compute:gain"]
        layer, shape, axes, _, _, job = run["name"].split("/")[:6]
        lines.append(f"| {layer} {shape} {axes} {job} | {report.number(run['tensornorm:us'])} "
                     f"| {report.spread(run, 'tensornorm:gain')} | {report.number(run['tensornorm:gain'] / compute)} "
                     f"| {report.number(run['memcpy:gain'])} | {report.number(run['tensornorm/memcpy, threads'])} |")
    computes = sorted(run["compute:gain"] for run in data["benchmarks"])
    return [f"The loop that only computes gains {report.number(computes[len(computes) // 2])} (median over the cases).", "",
            *lines, ""]


def draw(results, name, rows, columns, peers):
    """Bars: a cluster a row, a bar a column; the height is memcpy's time over the contender's."""
    names = ["tensornorm", "hand_loop_native", *peers]
    colours = " ".join(COLOURS[names.index(key.removesuffix("/memcpy")) % len(COLOURS)] for key, _ in columns)
    table = results / f"{name}.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["panel", "case", *(label.replace(",", "") for _, label in columns)])  # for cut and awk
        for panel, case, run in rows:
            writer.writerow([panel, case, *(f"{1 / run[key]:.4f}" if key in run else 0 for key, _ in columns)])
    subprocess.run(["gnuplot", "-c", HERE / "bars.gp", table, results / f"{name}.svg", colours], check=True)


def bars_of(runs, peers):
    """Columns: neither roofs nor what would be too low to see."""
    shown = ["hand_loop_native", *peers]
    columns = [column for column in report.contenders(runs, peers) if column[0].removesuffix("/memcpy") in shown]
    return [("tensornorm/memcpy", "tensornorm"), *columns]


def main():
    directory, results = map(pathlib.Path, sys.argv[1:3])
    results.mkdir(parents=True, exist_ok=True)
    paths = {part: directory / f"{part}.json" for part in ("suite", "variants", "workloads", "threads")}
    paths = {part: path for part, path in paths.items() if ran(path)}
    context, groups = report.load([paths[part] for part in ("suite", "variants") if part in paths])
    for part in ("threads", "workloads"):
        if part in paths:
            context = read(paths[part])["context"] | context
    commits = {part: read(path)["context"].get("commit", "unknown") for part, path in paths.items()}
    if len(set(commits.values())) > 1:  # parts that an earlier run left
        context["commit"] = ", ".join(f"{commit} ({part})" for part, commit in commits.items())
    peers = report.peers_of(context)

    lines = ["# Comparison", "", "Written by `benchmarks/compare.sh`; benchmarks/README.md says how it is measured. Ratios are "
             "times over memcpy's of the same tensor in the same round: median (quartiles).", "", *report.setting(context)]
    if "workloads" in paths:
        data = read(paths["workloads"])
        networks = data["benchmarks"]
        rows = [("", " ".join(run["name"].split("/")[:2]), run) for run in networks]
        lines += ["## Networks", "", "![Speed on the layers of networks](workloads.svg)", "", *workloads_table(data)]
        draw(results, "workloads", rows, bars_of(networks, peers), peers)
    if "suite" in paths:
        measured = {job: groups.get((job, "float", "RowMajor"), {}) for job in JOBS}
        rows = [(job, case, run) for job, runs in measured.items() for case, run in runs.items()
                if run.get("memcpy:us", 0) > 2]  # a shorter call is told in microseconds, in the tables
        lines += ["## Suite", ""]
        if rows:
            lines += ["![Speed on the shape suite](suite.svg)", ""]
            draw(results, "suite", rows, bars_of([run for _, _, run in rows], peers), peers)
        lines += verdicts(groups, peers)
    tables, _ = report.tables(context, groups)
    lines += tables + notes(groups)
    if "threads" in paths:
        lines += ["## Threads", "", *threads_table(read(paths["threads"]))]
    (results / "comparison.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
