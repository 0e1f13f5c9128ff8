"""The section of a file of `sottovoce bench gpu`: what was checked, ceilings, kernels, requests."""

from __future__ import annotations

from typing import Final

from sottovoce.bench.gpu.schema import Gpu, GpuReport
from sottovoce.bench.report import markdown, text
from sottovoce.bench.schema import Results

CEILING_COLUMNS: Final = ("ceiling", "per second", "of what")
KERNEL_COLUMNS: Final = (
    "kernel", "size", "masks", "time on the device (quartiles)", "moved", "operations per second", "operation",
    "of the ceiling", "which ceiling", "launch, host",
)  # fmt: skip
PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def gpu_section(results: Results) -> list[str]:
    """In Markdown. What is not in the file is not on the page."""
    report = results.gpu
    if report is None:
        return []
    parts = [_list([device_line(report.gpu), *correctness_lines(report), *part_lines(report)])]
    if lines := ceiling_lines(report):
        parts.append(markdown.table(CEILING_COLUMNS, lines))
    if lines := kernel_lines(report):
        summary = f"<details><summary>All {text.count(len(lines), 'kernel timing')}</summary>"
        parts.append(f"{summary}\n\n{markdown.table(KERNEL_COLUMNS, lines, words=3)}\n\n</details>")
    if results.rows:
        parts.append(markdown.rows_table(results.rows))
    return parts


def device_line(gpu: Gpu) -> str:
    """The device, on one line."""
    driver = f", driver {gpu.driver}" if gpu.driver else ""
    clocks = "".join(f", {name} {value}" for name, value in gpu.clocks.items())
    return (
        f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.multiprocessors} multiprocessors, "
        f"{text.size(gpu.memory_bytes)}, {text.count(gpu.devices, 'device')}{driver}, CUDA {gpu.cuda}, "
        f"CuPy {gpu.cupy}{clocks}"
    )


def correctness_lines(report: GpuReport) -> list[str]:
    """What was compared, what is wrong, what the sanitizers say."""
    lines = []
    if report.checked:
        equal = [row for row in report.checked if row.status == "equal"]
        calls, streams, exact = (sum(getattr(row, n) for row in equal) for n in ("calls", "streams", "references"))
        lines.append(
            f"{len(equal)} of {len(report.checked)} kernels and variants equal the CPU's bit for bit: "
            f"{calls:,} calls, {streams:,} of them with masks from keystreams, {exact:,} also beside big integers"
        )
    lines += [f"WRONG: {row.kernel}: {row.problem}" for row in report.checked if row.status == "wrong"]
    for row in report.sanitized:
        over = f" over {text.count(len(row.kernels), 'kernel')}" if row.kernels else ""
        lines.append(f"compute-sanitizer {row.tool}: {row.status}{over}{f': {row.reason}' if row.reason else ''}")
    return lines


def part_lines(report: GpuReport) -> list[str]:
    """What was left out, and which part did not come to its end."""
    lines = []
    for part in report.parts:
        if not part.finished:
            lines.append(f"{part.name}: not finished, after {part.took_s:.0f} s{part.reason and f': {part.reason}'}")
        if part.cut:
            lines.append(f"{part.name}: left out for lack of time: {'; '.join(part.cut)}")
    return lines


def ceiling_lines(report: GpuReport) -> list[tuple[str, ...]]:
    """For a table of CEILING_COLUMNS."""
    return [
        (row.name, row.reason or text.NONE if row.per_s is None else per_second(row.per_s), row.unit)
        for row in report.ceilings
    ]


def kernel_lines(report: GpuReport) -> list[tuple[str, ...]]:
    """For a table of KERNEL_COLUMNS."""
    lines = []
    for row in report.kernels:
        head = (row.kernel, row.size, "" if row.masks == "none" else row.masks)
        if row.device_us is None or row.lower_us is None or row.upper_us is None or row.host_us is None:
            lines.append((*head, row.reason or text.NONE, *[text.NONE] * 6))
            continue
        quartiles = f"{text.figure(row.lower_us)} to {text.figure(row.upper_us)}"
        lines.append(
            (
                *head, f"{text.us(row.device_us)} ({quartiles})", text.size(row.moved_bytes),
                per_second(1e6 * row.operations / row.device_us), row.unit,
                text.NONE if row.fraction is None else f"{100 * row.fraction:.0f} %", row.ceiling or text.NONE,
                text.us(row.host_us),
            )
        )  # fmt: skip
    return lines


def per_second(value: float) -> str:
    """Three digits with a prefix: 12.3 T."""
    for factor, prefix in PREFIXES:
        if value >= factor:
            return f"{text.figure(value / factor)} {prefix}"
    return text.figure(value)


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {markdown.plain(line)}" for line in lines)
