#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a Markdown table from bench_layers' JSON.

    bench_layers --benchmark_out=layers.json --benchmark_out_format=json
    report.py layers.json [more.json ...] > layers.md

Several files are several runs: the later one's figures replace the earlier one's of the same case.
Exits with 1 under --goals when a case lies above its goal by more than its own quartiles.
"""
import argparse
import json
import sys

CONTEXT = ("processor", "instruction set", "compiler", "flags", "offset", "eigen", "tensornorm", "commit", "date")
NAMES = {"streaming_copy": "streaming copy", "hand_loop_native": "hand loop, -O3 -march=native", "hand_loop": "hand loop, -O2",
         "eigen_expression": "Eigen expression", "triad": "triad", "streaming_triad": "streaming triad"}
TRIADS = (("tensornorm/fastest_triad", "to the faster triad"),)


def peers_of(context):
    """The names of the other libraries that took part."""
    return [key.removeprefix("peer ") for key in context if key.startswith("peer ")]


def contenders(runs, peers):
    """Columns: what any of the runs has as a ratio to memcpy, baselines before peers."""
    present = {key for run in runs for key in run}
    names = NAMES | {peer: peer for peer in peers}
    return tuple((f"{key}/memcpy", name) for key, name in names.items() if f"{key}/memcpy" in present)


def number(value):
    """Three significant digits are what a timing is worth."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def spread(run, key, mark="**"):
    if key not in run:
        return "-"
    if key + ":q1" not in run:
        return number(run[key])
    return f"{mark}{number(run[key])}{mark} ({number(run[key + ':q1'])}-{number(run[key + ':q3'])})"


def goal(run):
    """What is aimed at, what was reached, and whether the lower quartile still lies above it."""
    for target, reached, unit in (("goal", "tensornorm/memcpy", ""), ("goal:us", "tensornorm:us", " us")):
        if target in run:
            missed = run[reached + ":q1"] > run[target]
            return f"{number(run[target])}{unit}{' missed' if missed else ''}", missed
    return "-", False


def table(title, runs, columns):
    header = ["case", "memcpy, us", "tensornorm, us", "ratio (quartiles)", "chained", *(name for _, name in columns), "goal"]
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    missed = 0
    for run in runs:
        if "error_message" in run:
            lines.append(f"| {run['case']} | {run['error_message']} |" + " |" * (len(header) - 2))
            continue
        aim, failed = goal(run)
        missed += failed
        cells = [run["case"], number(run["memcpy:us"]), number(run["tensornorm:us"]), spread(run, "tensornorm/memcpy"),
                 number(run.get("tensornorm+reader/memcpy+reader")), *(spread(run, key, "") for key, _ in columns), aim]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""], missed


def load(paths):
    """The context, and the runs by (job, precision, storage) and case; a later file's figures replace an earlier one's."""
    context, groups = {}, {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        context.update(data["context"])
        for run in data["benchmarks"]:
            layer, shape, axes, precision, storage, job = run["name"].split("/")[:6]
            run["case"] = f"{layer} {shape} {axes}"
            groups.setdefault((job, precision, storage), {})[run["case"]] = run
    return context, groups


def setting(context):
    return [f"- {key}: {context[key]}" for key in context if key in CONTEXT or key.startswith("peer ")] + [""]


def tables(context, groups):
    """The lines of all tables, and how many cases miss their goal."""
    lines, missed = [], 0
    for (job, precision, storage), runs in groups.items():
        columns = contenders(runs.values(), peers_of(context))
        group_lines, group_missed = table(f"{job}, {precision}, {storage}", runs.values(),
                                          columns + (TRIADS if job == "backward" else ()))
        lines += group_lines
        missed += group_missed
    return lines, missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--goals", action="store_true", help="exit with 1 when a goal is missed")
    arguments = parser.parse_args()

    context, groups = load(arguments.files)
    lines, missed = tables(context, groups)
    print("\n".join(setting(context) + lines))
    if arguments.goals and missed:
        sys.exit(f"{missed} cases lie above their goal")


if __name__ == "__main__":
    main()
