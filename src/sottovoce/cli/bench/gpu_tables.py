"""What `sottovoce bench gpu` found, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.cli.output import make_table, printable

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.bench.gpu.schema import GpuReport
    from sottovoce.bench.schema import Results


def show_gpu(results: Results, console: Console) -> None:
    """The device, what was checked, ceilings, kernels, rows, what was left out."""
    from sottovoce.bench.report import gpu as page
    from sottovoce.cli.bench.tables import show_rows

    report = results.gpu
    assert report is not None
    console.print(printable(page.device_line(report.gpu)), soft_wrap=True)
    for line in page.correctness_lines(report):
        console.print(printable(line), soft_wrap=True)
    _table(console, page.CEILING_COLUMNS, page.ceiling_lines(report), report)
    _table(console, page.KERNEL_COLUMNS, page.kernel_lines(report), report)
    if results.rows:
        show_rows(results)
    for line in page.part_lines(report):
        console.print(printable(line), soft_wrap=True)


def _table(console: Console, columns: tuple[str, ...], lines: list[tuple[str, ...]], report: GpuReport) -> None:
    if not lines:
        return
    table = make_table(columns[:1], columns[1:])
    for line in lines:
        table.add_row(*map(printable, line))
    console.print(table)
