"""Measurements as tables for people, and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence

from streamdrnn.apps.bench.tables import Table, Value


def to_json(command: str, machine: Mapping[str, object], tables: Sequence[Table]) -> str:
    """One JSON object on one line."""
    results = {table.name: {"title": table.title, "notes": table.notes, "rows": table.rows} for table in tables}
    return json.dumps({"command": command, "machine": machine, "tables": results})


def to_markdown(command: str, machine: Mapping[str, object], tables: Sequence[Table], plots: Sequence[str]) -> str:
    """A page of the tables, and of plots that lie beside it."""
    lines = ["# Benchmark results", "", f"Made by `{command}`.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        if table.rows:
            names = shown(table)
            lines.append(f"| {' | '.join(map(heading, names))} |")
            lines.append(f"|{'|'.join(' ---: ' if is_number(table, name) else ' --- ' for name in names)}|")
            lines += [f"| {' | '.join(text(row[name]) for name in names)} |" for row in table.rows]
            lines.append("")
        lines.append("\n\n".join(table.notes))
    for plot in plots:
        lines += ["", f"![{plot.removesuffix('.png')}]({plot})"]
    return "\n".join(lines) + "\n"


def print_tables(machine: Mapping[str, object], tables: Sequence[Table]) -> None:
    """Draw the tables on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim", highlight=False)
    for table in tables:
        notes = "\n".join(table.notes)
        grid = Grid(
            title=table.title,
            title_justify="left",
            caption=notes,
            caption_justify="left",
            box=SIMPLE_HEAD,
        )
        names = shown(table)
        for name in names:
            grid.add_column(heading(name), justify="right" if is_number(table, name) else "left")
        for row in table.rows:
            grid.add_row(*(escape(text(row[name])) for name in names))
        console.print()
        console.print(grid)


def shown(table: Table) -> list[str]:
    """The columns that say something."""
    names = list(table.rows[0]) if table.rows else []
    return [name for name in names if any(row[name] != "" for row in table.rows)]


def heading(name: str) -> str:
    """A column's name for people."""
    return name.replace("_", " ").replace("gflop per s", "GFLOP/s").replace("mib", "MiB").replace("kib", "KiB")


def is_number(table: Table, name: str) -> bool:
    """Whether a column is of numbers."""
    return not any(isinstance(row[name], str) for row in table.rows)


def text(value: Value) -> str:
    """A value to three digits."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return "\u2013".join(map(text, value))
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
