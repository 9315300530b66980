"""What file names tell: the subject and the expression of a picture, by data set or pattern."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mlr.errors import OptionError, did_you_mean
from mlr.io.files import is_folder_name
from mlr.io.folders import same

_LETTERS = "af afraid an angry di disgusted fe afraid ha happy ne neutral sa sad su surprised"


@dataclass(frozen=True)
class Scheme:
    """How the files of a data set are named.

    The pattern matches the end of a path without its suffix, in any case. Its groups are
    ``subject``, ``expression`` and ``take``, which tells pictures of one subject apart; a picture
    with any other group, such as ``side``, is skipped, and so is one whose expression is not in
    ``codes``.
    """

    pattern: str
    example: str
    codes: str = ""  # and the expressions they mean; without any, names are expressions
    skips: str = ""  # what is skipped
    #: Of sequences from neutral: where the expression is, from 0 to 1; their pattern has ``frame``.
    apex: float | None = None

    @property
    def expressions(self) -> dict[str, str]:
        """Expressions by their codes in file names."""
        words = self.codes.split()
        return dict(zip(words[::2], words[1::2], strict=True))


SCHEMES = {
    "kdef": Scheme(
        r"(?P<take>[AB])(?P<subject>[FM]\d\d)(?P<expression>[A-Z]{2})(S|(?P<side>[FH][LR]))",
        "AF01NES.JPG",
        _LETTERS,
        "side views (HL, FL, HR, FR)",
    ),
    "rafd": Scheme(
        r"Rafd(090|(?P<side>\d+))_(?P<subject>\d+)_\w+_(?P<expression>[a-z]+)"
        r"_(frontal|(?P<gaze>left|right))",
        "Rafd090_01_Caucasian_female_happy_frontal.jpg",
        "angry angry contemptuous contemptuous disgusted disgusted fearful afraid happy happy "
        "neutral neutral sad sad surprised surprised",
        "side views (not 090) and gazes to a side",
    ),
    "fei": Scheme(
        r"(?P<subject>\d+)(?P<expression>[ab]|-\d\d)",
        "1a.jpg or 1-11.jpg",
        "a neutral b happy -11 neutral -12 happy",
        "side views (01 to 10) and other light (13, 14)",
    ),
    "ck": Scheme(
        r"(?P<subject>S\d+)_(?P<take>\d+)_(?P<frame>\d+)",
        "S005_001_00000011.png",
        "0 neutral 1 angry 2 contemptuous 3 disgusted 4 afraid 5 happy 6 sad 7 surprised",
        "video frames between the first and the last, and sequences without a label",
        apex=1.0,
    ),
    "jaffe": Scheme(
        r"(?P<subject>[A-Z]{2})\.(?P<expression>[A-Z]{2})\d\.\d+", "KA.NE1.26.tiff", _LETTERS
    ),
    "cfd": Scheme(
        r"CFD-(?P<subject>[A-Z]{2}-\d+)-\d+-(?P<expression>[A-Z]+)",
        "CFD-WF-001-003-N.jpg",
        "n neutral a angry f afraid hc happy_closed ho happy_open",
    ),
    "london": Scheme(
        r"(?P<subject>\d{3})_(?P<expression>\d\d)",
        "001_03.jpg",
        "03 neutral 08 happy",
        "side views (not 03 or 08)",
    ),
    "mug": Scheme(
        r"(?P<subject>\d+)/(session\d+/)?(?P<take>(?P<expression>[a-z]+)/take\d+)/img_(?P<frame>\d+)",
        "001/anger/take000/img_0030.jpg",
        "anger angry disgust disgusted fear afraid happiness happy sadness sad surprise surprised",
        "video frames other than the first and the middle one, and sequences without an expression",
        apex=0.5,
    ),
}
#: ``ann_neutral``, ``ann_happy``; subfolders are part of the subject.
PLAIN = Scheme(
    r"(?P<folder>.*/)?(?P<subject>[^/]+)[_ -](?P<expression>[^/_ -]+)",
    "ann_neutral.jpg",
    skips="outputs of mlr synthesize",
)
_FIELDS = {"subject": "[^/]+", "expression": "[^/]+?", "take": "[^/]+?"}
_LETTERS_ONLY = r"[^\W\d_]+"  # what an expression is before * or another field
_READ = {*_FIELDS, "folder", "frame"}


class Named(NamedTuple):
    """The expression that a file shows, and the name of the subject in it, without suffix."""

    expression: str
    name: str


@dataclass
class Reading:
    """What was read from the names of files."""

    found: dict[str, Named] = field(default_factory=dict)
    skipped: int = 0  # as the scheme says
    unmatched: list[str] = field(default_factory=list)

    def with_source(self, source: str) -> set[str]:
        """Return the names that the source expression has, as `same`."""
        return {same(name) for expression, name in self.found.values() if expression == source}

    def drop_unpaired(self, source: str) -> int:
        """Drop names that the source expression, if there is any, lacks; return their number."""
        with_source = self.with_source(source)
        alone = [file for file, (_, name) in self.found.items() if same(name) not in with_source]
        if not with_source:
            return 0
        for file in alone:
            del self.found[file]
        return len(alone)

    def expressions(self) -> dict[str, dict[str, str]]:
        """Return the file of each name by expression."""
        files: dict[str, dict[str, str]] = defaultdict(dict)
        for file, (expression, name) in self.found.items():
            files[expression][name] = file
        return dict(sorted(files.items()))


def scheme_of(dataset: str | None, names: str | None) -> Scheme | None:
    """Return the scheme of a data set or of a pattern such as ``{subject}_{expression}.jpg``.

    In a pattern ``*`` stands for anything; the suffix does not matter. `OptionError` is raised if
    both are given, the data set is unknown, or the pattern lacks a field or has an unknown one.
    """
    if dataset is not None:
        if names is not None:
            raise OptionError("give --dataset or --names, not both")
        if dataset not in SCHEMES:
            known, hint = ", ".join(SCHEMES), did_you_mean(dataset, SCHEMES)
            raise OptionError(f"unknown data set {dataset!r}; there are: {known}{hint}")
        return SCHEMES[dataset]
    if names is None:
        return None
    text = str(PurePosixPath(names.replace("\\", "/")).with_suffix(""))
    parts = re.split(r"\{(\w*)\}", text)
    used = set(parts[1::2])
    if len(used) < len(parts[1::2]) or not {"subject", "expression"} <= used <= set(_FIELDS):
        raise OptionError(
            f"{names!r}: expected {{subject}} and {{expression}} once each, as in "
            "{subject}_{expression}.jpg, and perhaps {take} and *"
        )
    pattern = "(?P<folder>.*/)?"
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part).replace(r"\*", "[^/]*")
            continue
        following = parts[index + 1][:1]
        joined = following == "*" or (not following and index + 2 < len(parts))
        text = _LETTERS_ONLY if joined and part == "expression" else _FIELDS[part]
        pattern += f"(?P<{part}>{text})"
    return Scheme(pattern, names)


def read_names(
    files: Iterable[str], scheme: Scheme, labels: Mapping[str, str] | None = None
) -> Reading:
    """Read names of files, relative to their folder, with / between folders.

    Several pictures of one expression of a subject get the names ``ann``, ``ann-2`` and so on, in
    the order of their takes, or else of the files. ``labels`` are the codes of sequences whose
    names have none, by the stem of their last file.
    """
    reading, codes, taken = Reading(), scheme.expressions, set[Named]()
    pattern = re.compile(rf"{'(?:.*/)?' if codes else ''}{scheme.pattern}", re.IGNORECASE)
    matches = []
    for file in sorted(files):
        stem = str(PurePosixPath(file).with_suffix(""))
        match = pattern.fullmatch(stem.upper() if codes else stem)
        if match is None:
            reading.unmatched.append(file)
        else:
            matches.append((file, match.groupdict()))
    unmatched = len(reading.unmatched)
    if scheme.apex is None:
        chosen = [
            (file, groups, codes.get(code, "") if codes else code)
            for file, groups in matches
            for code in [unicodedata.normalize("NFC", groups["expression"]).lower()]
            if not set(filter(groups.get, groups)) - _READ
        ]
    else:
        chosen = list(_of_sequences(matches, scheme.apex, codes, labels or {}))
    takes: dict[str, list[str]] = defaultdict(list)
    counts = Counter[tuple[str, str]]()
    for file, groups, expression in chosen:
        if not is_folder_name(expression):
            continue
        folder = PurePosixPath(groups.get("folder") or "")
        if folder.name.lower() == expression:  # neutral/ann_neutral.png
            folder = folder.parent
        subject, take = str(folder / groups["subject"]), groups.get("take")
        counts[subject, expression] += 1
        number = counts[subject, expression]
        if take is not None:
            known = takes[subject]
            known += [] if take in known else [take]
            number = known.index(take) + 1
        named = Named(expression, subject if number == 1 else f"{subject}-{number}")
        if named in taken:  # a subject called ann-2
            reading.unmatched.append(file)
        else:
            taken.add(named)
            reading.found[file] = named
    reading.skipped = len(matches) - len(reading.found) - (len(reading.unmatched) - unmatched)
    return reading


def _of_sequences(
    matches: Iterable[tuple[str, dict[str, str]]],
    apex: float,
    codes: Mapping[str, str],
    labels: Mapping[str, str],
) -> Iterable[tuple[str, dict[str, str], str]]:
    """Yield the first and one other video frame of each sequence, and their expressions."""
    sequences: dict[tuple[str, str], list[tuple[str, dict[str, str]]]] = defaultdict(list)
    for file, groups in matches:
        sequences[groups["subject"], groups["take"]].append((file, groups))
    for frames in sequences.values():
        frames.sort(key=lambda each: int(each[1]["frame"]))
        file, groups = frames[round(apex * (len(frames) - 1))]
        code = groups.get("expression") or labels.get(PurePosixPath(frames[-1][0]).stem, "")
        expression = codes.get(code.lower(), "")
        if expression not in ("", "neutral") and len(frames) > 1:
            yield (*frames[0], "neutral")
            yield file, groups, expression


def labels_of(folders: Iterable[Path]) -> dict[str, str]:
    """Return the labels of sequences of CK+ by the stem of their last file.

    They are in files such as ``S005_001_00000011_emotion.txt`` in the folders, or in folders whose
    name begins with ``Emotion`` next to them.
    """
    found = {}
    for folder in folders:
        for root in (folder, *folder.resolve().parent.glob("Emotion*")):
            for path in root.rglob("*_emotion.txt"):
                number = path.read_text(errors="replace").strip()[:1]
                found[path.stem.removesuffix("_emotion")] = number
    return found


def recognised(
    files: Sequence[str], source: str, schemes: Collection[Scheme] = (PLAIN,)
) -> tuple[Scheme, Reading] | None:
    """Return the scheme that names of files follow, if any, and what is read from them.

    Of a known data set all names must. Otherwise names must be those of a subject with the source
    expression and another; outputs of ``mlr synthesize`` next to these are skipped.
    """
    for scheme in schemes:
        reading = read_names(files, scheme)
        if scheme is PLAIN:
            _keep_pairs(reading, source)
        elif reading.unmatched:
            continue
        by_expression = reading.expressions()
        by_expression.pop(source, None)
        sources = reading.with_source(source)
        if any(same(name) in sources for names in by_expression.values() for name in names):
            return scheme, reading
    return None


def _keep_pairs(reading: Reading, source: str) -> None:
    """Keep subjects with a source, and skip outputs such as ``ann_neutral-happy``."""
    with_source = reading.with_source(source)
    stems = {str(PurePosixPath(file).with_suffix("")) for file in reading.found}
    for file, (_, name) in list(reading.found.items()):
        if same(name) not in with_source:
            del reading.found[file]
            if name in stems and str(PurePosixPath(file).with_suffix("")).startswith(f"{name}-"):
                reading.skipped += 1
            else:
                reading.unmatched.append(file)
