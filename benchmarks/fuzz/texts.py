"""Odd manifests and command lines."""

from __future__ import annotations

import os
import random

from benchmarks.fuzz.room import Room, WrongError, damaged, kind


@kind(7)
def manifests(room: Room, rng: random.Random) -> str:
    """pairs.csv: paths up, absolute and linked, odd expressions, quotes, encodings, NULs."""
    faces = [f"../faces/{name}/{n}.png" for name in ("neutral", "happy") for n in range(4)]
    odd = [
        "", ".", "..", "../../../etc/passwd", "/etc/passwd", "/dev/null", "link.png", "loop.png",
        "a\0b", "a\nb.png", "x" * 300, "y/" * 3000, "é.png", "\ud800", "~", "a,b", 'a"b', "\t",
        str(room.model), str(room.faces), "x" * 200_000, "../faces/neutral/0.png/x",
    ]  # fmt: skip
    expressions = [
        "happy", "sad", "", "../evil", "/evil", "a/b", "..", ".hidden", "x" * 300, "é", "\u202e",
        "a\\b", "a\0", "con", "a=1", "happy-0.5", "-o", "overview", " ",
    ]  # fmt: skip
    (room.input / "link.png").symlink_to(room.faces / "happy" / "1.png")
    (room.input / "loop.png").symlink_to("loop.png")

    def cell(usual: list[str], unusual: list[str]) -> str:
        return rng.choice(unusual) if rng.random() < 0.15 else rng.choice(usual)

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if rng.random() < 0.9 else text

    head = rng.choice(["source,target,expression"] * 8 + ["source,target", "a,b", "", "source"])
    rows = [
        ",".join(
            quoted(text)
            for text in (
                cell(faces[:4], odd),
                cell(faces[4:], odd),
                cell(["happy", "sad"], expressions),
            )[: rng.choice((3, 3, 3, 3, 2, 1))]
        )
        for _ in range(rng.randint(0, 6))
    ]
    data = "\n".join([head, *rows]).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        data = damaged(data, rng)
    if rng.random() < 0.05:
        encoding = rng.choice(["utf-16", "latin-1", "utf-7"])
        data = data.decode("utf-8", "replace").encode(encoding, "replace")
    (room.input / "pairs.csv").write_bytes(data)
    model = room.output / "m.npz"
    code = room.mlr("train", room.input, "-o", model, "-q")
    if not model.exists():
        return f"no model, exit code {code}"
    room.mlr("synthesize", model, room.faces / "neutral", "-o", room.output / "faces", "-q")
    room.mlr("evaluate", model, room.input, "--report", room.output / "report", "-q")
    return f"trained with exit code {code}"


_NUMBERS = (
    "0", "1", "3", "-1", "2", "5", "17", "1e400", "nan", "inf", "-0.0", "0.4", "", " ", "x",
    "1e-320", "9" * 30, "9" * 5000, "0x10", "٣", "1_000", "true", "None", "1000000", "201", "1e9",
)  # fmt: skip
_NAMES = (
    "happy", "sad", "neutral", "", ".", "..", "/", "../x", "x" * 300, "é", "\udcff", "\u202e",
    "-", "--", "happy=1", "happy=nan", "happy=1,sad=0.5", "=", ",", "happy=1,happy=2",
    "happy=1e400", "happy=-1", "a\nb", "%s", "{}", "*",
)  # fmt: skip


@kind(7)
def command_lines(room: Room, rng: random.Random) -> str:
    """Commands with options, values and arguments of all sorts, in any order."""
    options = {
        "train": "-o --remove --recipe --receptive-field --source --target --penalty --threads "
        "--checkpoint --shard --cluster --blur --like --memory",
        "statistics": "-o --remove --receptive-field --source --target --threads --checkpoint "
        "--like",
        "synthesize": "-o --target --strength --style --resize --threads --cluster",
        "evaluate": "--source --target --style --report --threads --cluster",
        "sample": "--pairs --size --seed --target --threads",
        "info": "--json",
        "bench": "--receptive-field --threads",
    }
    out = room.output
    paths = [
        room.faces, room.model, room.statistics, room.faces / "neutral", out,
        room.faces / "happy/0.png", room.input, "/", "/dev/null", "/nowhere", out / "new",
        out / "x.npz", out / "x.png", "",
        out / ("x" * 300), f"{out}/é\udcff.png", out / "a/../b.npz", f"{room.faces}/../faces",
    ]  # fmt: skip
    command = rng.choice([*options, *list(options)[:5], "nothing"])
    arguments: list[object] = [command]
    usual: dict[str, list[object]] = {
        "train": [room.faces],
        "statistics": [rng.choice([room.faces, room.statistics])],
        "synthesize": [room.model, room.faces / "neutral"],
        "evaluate": [room.model, room.faces],
        "sample": [out / "drawn"],
        "info": [rng.choice([room.model, room.statistics])],
        "bench": ["--repeat", "0"],
    }
    arguments += usual.get(command, []) if rng.random() < 0.8 else [rng.choice(paths)]
    if command in ("train", "statistics", "synthesize"):
        arguments += ["-o", out / "result" if command == "synthesize" else out / "result.npz"]
    if command == "sample":
        arguments += ["--pairs", 1, "--size", 16]
    for _ in range(rng.randint(0, 3)):
        option = rng.choice([*options.get(command, "").split(), "--json", "-q", "-v", "--force"])
        arguments.append(option)
        if option in ("-o", "--remove", "--report"):
            # Within the output folder: elsewhere it may be written to.
            arguments.append(rng.choice([p for p in paths if str(p).startswith(str(out))]))
        elif option in ("--source", "--target", "--recipe"):
            arguments.append(rng.choice(_NAMES))
        elif option == "--style":
            arguments.append(rng.choice((*_NAMES, *_NUMBERS)))
        elif option == "--like":
            arguments.append(rng.choice(paths))
        elif option == "--pairs":
            arguments.append(rng.choice(["0", "-1", "x", "2", "9" * 5000]))
        elif option not in ("--json", "-q", "-v", "--force", "--resize"):
            arguments.append(rng.choice(_NUMBERS))
    if rng.random() < 0.1:
        arguments.insert(rng.randrange(len(arguments) + 1), rng.choice([*_NAMES, "--help", "--x"]))
    # None of these may write outside the output folder.
    if command == "synthesize" and "-o" not in arguments:
        return "skipped"
    os.chdir(out)
    try:
        return f"exit code {room.mlr(*arguments)}"
    except WrongError as error:
        raise WrongError(f"{[str(a)[:60] for a in arguments]}: {error}") from error
    except Exception as error:
        raise WrongError(
            f"{[str(a)[:60] for a in arguments]}: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    finally:
        os.chdir("/")
