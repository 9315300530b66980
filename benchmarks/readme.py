"""Run `mlr bench`, and write the README's table of speeds.

python benchmarks/readme.py
"""

from pathlib import Path

from mlr.bench import bench
from mlr.bench.table import table as bench_table

README = Path(__file__).parent.parent / "README.md"


def renew(part, text):
    """Replace the part of the README that a command writes, between two comments with its name."""
    before, rest = README.read_text().split(f"<!-- {part}: ")
    command, old = rest.split(" -->\n", 1)
    end = f"<!-- end of {part} -->"
    README.write_text(f"{before}<!-- {part}: {command} -->\n{text}{end}{old.split(end)[1]}")


def duration(seconds):
    """Return a time with two significant digits."""
    unit, size = next(u for u in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)) if seconds >= u[1])
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


def table(result):
    """Return the table as Markdown."""
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, "
        f"NumPy {machine['numpy']}, Numba {machine['numba']}; {result['settings']['pairs']} grey "
        "pairs, medians.",
        "",
        "| size, window | train from memory | plain NumPy | | apply to an image |",
        "|---|---|---|---|---|",
    ]
    applied = {
        (stage["size"], stage["receptive_field"]): stage["seconds"]["median"]
        for stage in result["stages"]
        if stage["stage"] == "apply"
    }
    for entry in result["comparisons"]:
        if entry["task"] == "train":
            plain = [peer for peer in entry["peers"] if peer["name"] == "plain NumPy"]
            theirs, ratio = ("over 0.5 GB: not run", "")
            if plain:
                theirs = duration(plain[0]["seconds"]["median"])
                ratio = f"{plain[0]['ratio']:.0f} times"
            size, field = entry["size"], entry["receptive_field"]
            ours = duration(entry["seconds"]["median"])
            apply = duration(applied[size, field])
            lines.append(f"| {size} px, {field} | {ours} | {theirs} | {ratio} | {apply} |")
    return "\n".join(lines) + "\n"


def main():
    result = bench()
    print(bench_table(result))
    renew("speeds", table(result))


if __name__ == "__main__":
    main()
