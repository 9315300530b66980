"""The benchmark's results as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def table(result: dict[str, Any]) -> str:
    """Return what `mlr.bench.bench` found, as lines of at most 100 characters."""
    sections = (_heading, _first_calls, _limits, _stages, _comparisons, _footing)
    return "\n".join(line for section in sections for line in section(result))


def seconds(value: float) -> str:
    """Return a time with three digits and a unit that suits it.

    >>> seconds(0.01234), seconds(1.5), seconds(2e-05)
    ('12.3 ms', '1.50 s', '20.0 us')
    """
    unit, size = next(
        ((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if value >= size * 0.9995),
        ("us", 1e-6),
    )
    return f"{number(value / size)} {unit}"


def number(value: float) -> str:
    """Return a number with three digits, or all of those before the point.

    >>> number(1.234), number(12.34), number(123.4), number(12345.6)
    ('1.23', '12.3', '123', '12346')
    """
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"


def _heading(result: dict[str, Any]) -> Iterator[str]:
    machine = result["machine"]
    blas = machine["blas"]
    threads = "threads unknown" if blas["threads"] is None else _count(blas["threads"], "thread")
    kernel = f", for {blas['kernel']}" if blas["kernel"] else ""
    yield (
        f"mlr {machine['mlr']} on {machine['processor']}, "
        f"{_count(machine['usable_processors'], 'processor')}, "
        f"{_count(machine['threads'], 'thread')}"
    )
    yield (
        f"{machine['system']}, Python {machine['python']}, Numba {machine['numba']}, "
        f"NumPy {machine['numpy']} with {blas['name']} ({threads}{kernel})"
    )


def _first_calls(result: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "First calls in this process, which compile a kernel or load compiled code"
    for call in result["first_calls"]:
        note = "compiled" if call["compiled"] else ""
        yield f"  {call['name']:30}{seconds(call['seconds']):>10}  {note}".rstrip()


def _limits(result: dict[str, Any]) -> Iterator[str]:
    names = {
        "float32": "matrix product, float32",
        "float64": "matrix product, float64",
        "copy": "copy in memory, read + written",
    }
    yield ""
    yield "What the machine can do"
    for key, name in names.items():
        limit = result["limits"][key]
        yield f"  {name:30}{number(limit['rate']):>10} {limit['unit']}"


def _stages(result: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"Stages: median of {_count(result['settings']['repeat'], 'run')}"
    yield (
        f"  {'stage':11}{'work':36}{'time':>9}{'per second':>14}"
        f"{'rate':>13}{'limit':>7}{'of it':>6}"
    )
    for entry in result["stages"]:
        item = "pairs" if entry["stage"] == "accumulate" else "images"
        speed = entry["items_per_second"]
        yield (
            f"  {entry['stage']:11}{entry['work']:36}{seconds(entry['seconds']['median']):>9}"
            f"{'' if speed is None else f'{speed:.0f} {item}':>14}"
            f"{number(entry['rate']) + ' ' + entry['unit']:>13}"
            f"{_limit(entry)}"
        )
    yield "  limits:"
    for name, stages in _limit_names(result["stages"]).items():
        yield f"    {stages}: {name}"


def _limit(entry: dict[str, Any]) -> str:
    """Return the cells of the limit, if one is known."""
    if entry["limit"] is None:
        return ""
    return f"{number(entry['limit']):>7}{entry['fraction']:>6.0%}"


def _limit_names(stages: list[dict[str, Any]]) -> dict[str, str]:
    """Return the names of the limits, each with the stages that it is for."""
    found: dict[str, list[str]] = {}
    for entry in stages:
        if entry["limit_name"] is None:
            continue
        names = found.setdefault(entry["limit_name"], [])
        if entry["stage"] not in names:
            names.append(entry["stage"])
    return {limit: " and ".join(names) for limit, names in found.items()}


def _comparisons(result: dict[str, Any]) -> Iterator[str]:
    titles = {
        "train": "From images in memory to weights, in turn with other ways",
        "apply": "From an image and weights to an image, one thread, in turn with other ways",
        "batch": "From many images and weights to images, one thread, in turn with other ways",
    }
    for task, title in titles.items():
        yield ""
        yield title
        yield "  median, how many times as long as mlr (and of the fastest runs)"
        for entry in result["comparisons"]:
            if entry["task"] == task:
                yield f"  {entry['work']:48}{seconds(entry['seconds']['median']):>10}"
                yield from (_peer(peer) for peer in entry["peers"])


def _peer(peer: dict[str, Any]) -> str:
    time, ratio = peer["seconds"]["median"], peer["ratio"]
    fastest = number(peer["ratio_of_fastest"])
    return f"    {peer['name']:46}{seconds(time):>10}{number(ratio):>8} times  ({fastest:>5})"


def _footing(result: dict[str, Any]) -> Iterator[str]:
    if result["peak_memory"] is not None:
        yield ""
        yield f"Peak memory of images and training: {result['peak_memory'] / 2**20:.0f} MiB"


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"
