"""The benchmark's results as text."""

from __future__ import annotations

from typing import Any

from mlr.utils.progress import counted


def table(result: dict[str, Any]) -> str:
    """Return the result of `mlr.bench.bench` as lines of at most 100 characters."""
    machine = result["machine"]
    lines = [
        f"mlr {machine['mlr']} on {machine['processor']}, "
        f"{counted(machine['usable_processors'], 'processor')}, "
        f"{counted(machine['threads'], 'thread')}",
        f"{machine['system']}, Python {machine['python']}, Numba {machine['numba']}, "
        f"NumPy {machine['numpy']}",
        "",
        "First calls in this process, which compile a kernel or load compiled code",
    ]
    for call in result["first_calls"]:
        note = "compiled" if call["compiled"] else ""
        lines.append(f"  {call['name']:30}{seconds(call['seconds']):>10}  {note}".rstrip())
    lines += ["", f"Stages: median of {counted(result['settings']['repeat'], 'run')}"]
    lines.append(f"  {'stage':11}{'work':40}{'time':>9}{'per second':>16}{'rate':>14}")
    for entry in result["stages"]:
        item = "pairs" if entry["stage"] in ("accumulate", "train") else "images"
        speed = entry["items_per_second"]
        lines.append(
            f"  {entry['stage']:11}{entry['work']:40}{seconds(entry['seconds']['median']):>9}"
            f"{'' if speed is None else f'{number(speed)} {item}':>16}"
            f"{number(entry['rate']) + ' ' + entry['unit']:>14}"
        )
    if result["peak_memory"] is not None:
        lines += ["", f"Peak memory: {result['peak_memory'] / 2**20:.0f} MiB"]
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Return a time with three digits and a unit that suits it.

    >>> seconds(0.01234), seconds(1.5), seconds(2e-05)
    ('12.3 ms', '1.50 s', '20.0 us')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size * 0.9995:
            return f"{number(value / size)} {unit}"
    return f"{number(value / 1e-6)} us"


def number(value: float) -> str:
    """Return a number with three digits, or all digits of its integer part.

    >>> number(1.234), number(12.34), number(123.4), number(12345.6)
    ('1.23', '12.3', '123', '12346')
    """
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"
