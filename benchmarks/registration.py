"""Compare the registration of faces with optical flow of other libraries: time and alignment.

    python benchmarks/registration.py [DATA] [--title TITLE] [--write]

DATA is a folder of aligned faces, one folder an expression; by default faces are drawn. All methods
get the same features, local luminance at 64 px, and the same templates, made by the program; one
thread, time of the processor, medians of runs in turn. OpenCV takes part where it is installed
(``pip install opencv-python-headless``). Judges of the alignment:

- the height of the mouth in the template's frame, whose standard deviation over people should be
  small. It is known of drawn faces; of others dlib's predictor of 68 points tells it, where it is
  installed (``pip install dlib-bin face-recognition-models``). That one may be used for research
  alone: it judges here, and the program neither has nor needs it;
- known displacements: faces moved by smooth random fields are registered to themselves as they
  were, and to the mean face, where they should end up as they do unmoved.

``--write`` renews the section TITLE of ``benchmarks/results/registration.md`` and leaves all else.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from quality import part_of
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.registration import optical_flow_ilk, optical_flow_tvl1

from mlr.bench.machine import blas_threads, describe, optional
from mlr.bench.timing import PAUSE
from mlr.core.alignment import EYES
from mlr.core.registration.features import features_of, features_of_reduced
from mlr.core.registration.fields import area_averaged, compose, invert, resize_field, warp
from mlr.core.registration.geometry import feature_size, weights_and_oval
from mlr.core.registration.groupwise import register_to_mean, templates_of
from mlr.core.registration.register import Template
from mlr.core.registration.templates import eye_white_of, framed
from mlr.io.files import replacing
from mlr.io.images import read_image, resized
from mlr.io.pairs import find_pairs
from mlr.photo.detector import load_dlib_model
from mlr.samples.expressions import perform
from mlr.samples.folder import write_samples
from mlr.samples.geometry import place
from mlr.samples.subjects import meet
from mlr.utils.threads import limited

RESULTS = Path(__file__).parent / "results" / "registration.md"
SEED = 0  # of drawn faces and of displacements
TIMED = 4  # faces that are registered in turn
SPREAD, SMOOTH = 3.0, 16.0  # deviation and blur of known displacements, pixels of 128
RANGE = 3.0  # features from -3 to 3 become intensities from 0 to 1 for flows
NEAR = 3  # pixels; of 3, 5, 7 (the default) and 10 the radius that aligned mouths best
POINTS = "shape_predictor_68_face_landmarks.dat"
MOUTH = slice(48, 68)  # of the 68 points
#: Of the face in an image of 512 px, for the predictor: left, top, right, bottom; and the margin.
SIDE, BOX, MARGIN = 512, (50, 80, 462, 480), 100
SHAKEN = (-16, 0, 16)  # pixels that it is moved by: a mean of points is surer
OURS, REDNESS, EYES_ALONE = "mlr", "mlr, with redness", "eyes alone"
NO_OPENCV = "needs `pip install opencv-python-headless`"


class Faces(NamedTuple):
    """Images of one expression, how they were read, and what is known of them."""

    images: list  # uint8, (height, width, channels)
    grey: list  # Features of their luminance
    colour: list  # Features
    mouths: np.ndarray | None  # (N, points, 2): (y, x) as fractions of the sides


def luminance(features):
    """Return the first feature in [0, 1], mostly."""
    return features.half[..., 0] * np.float32(0.5 / RANGE) + np.float32(0.5)


def flow(function, template):
    """Return a function of features that takes a flow of scikit-image."""
    fixed = luminance(template)
    return lambda features: function(fixed, luminance(features))


def eight_bits(features):
    """Return the first feature as OpenCV takes it."""
    return np.clip(np.rint(255 * luminance(features)), 0, 255).astype(np.uint8)


def dis(cv2, preset, template):
    """Return a function of features that takes a flow of OpenCV."""
    method, fixed = cv2.DISOpticalFlow_create(preset), eight_bits(template)

    def register(features):
        found = method.calc(fixed, eight_bits(features), None)
        return np.ascontiguousarray(found[..., ::-1].transpose(2, 0, 1))

    return register


def methods():
    """Return what makes a registration out of a template, by title; None where it is missing."""
    cv2 = optional("cv2")
    found = {
        OURS: lambda template: template.register,
        "scikit-image, ILK": partial(flow, optical_flow_ilk),
        f"scikit-image, ILK, radius {NEAR}": partial(flow, partial(optical_flow_ilk, radius=NEAR)),
        "scikit-image, TV-L1": partial(flow, optical_flow_tvl1),
    }
    if cv2 is not None:
        cv2.setNumThreads(1)
    for name in ("ultrafast", "fast", "medium"):
        preset = cv2 and getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{name.upper()}")
        found[f"OpenCV, DIS {name}"] = None if cv2 is None else partial(dis, cv2, preset)
    return found


def unit(image):
    return image * np.float32(1 / 255)


def read(path):
    """Return an image of 8 bits, of the size that features are taken from."""
    pixels = read_image(path).pixels
    image = np.float32(pixels) / np.iinfo(pixels.dtype).max
    return np.uint8(np.rint(255 * area_averaged(image, *feature_size(*image.shape[:2]))))


def true_mouth(subject, expression):
    """Return the corners of the mouth of a drawn face, and the lips' edges between, (4, 2)."""
    shot = perform(SEED, subject, expression)
    m = place(meet(SEED, subject), shot).mouth
    left, right = ((m.y + y, m.x + x) for y, x in zip(m.corners, (-m.half, m.half), strict=True))
    upper, lower = (m.y - m.open_up - m.lip_upper, m.x), (m.y + m.open_down + m.lip_lower, m.x)
    middle = EYES[0][1], (EYES[0][0] + EYES[1][0]) / 2
    (across, down), (wide, tall) = shot.shift, shot.scale
    points = np.array([left, right, upper, lower])
    return (points + np.array([down, across])) * (tall, wide) + middle


def dlib_mouths(images):
    """Return the points of mouths, or None where there is no predictor."""
    dlib = optional("dlib")
    if dlib is None or find_spec("face_recognition_models") is None:
        return None
    predictor = load_dlib_model(dlib.shape_predictor, POINTS)
    found = []
    for image in images:
        large = resized(np.repeat(image, 3 // image.shape[2], axis=2), SIDE, SIDE)
        around = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
        large = np.pad(large, around, mode="edge")
        points = []
        for x in SHAKEN:
            for y in SHAKEN:
                left, top, right, bottom = (MARGIN + side for side in BOX)
                shape = predictor(large, dlib.rectangle(left + x, top + y, right + x, bottom + y))
                points.append([(p.y, p.x) for p in shape.parts()][MOUTH])
        found.append((np.mean(points, axis=0) - MARGIN + 0.5) / SIDE)
    return np.array(found)


def faces_of(pairs, expression, drawn):
    """Read the faces of an expression, None being the input."""
    paths = [p.source if expression is None else p.targets[expression] for p in pairs]
    images = [read(path) for path in paths]
    if drawn:
        name = expression or "neutral"
        mouths = np.array([true_mouth(int(subject.name), name) for subject in pairs])
    else:
        mouths = dlib_mouths(images)
    colour = [features_of_reduced(unit(image)) for image in images]
    grey = [features_of_reduced(unit(i).mean(axis=2, keepdims=True)) for i in images]
    return Faces(images, grey, colour, mouths)


def in_frame(field, points):
    """Return where points (y, x) of an image, fractions of its sides, lie in the frame: (N, 2).

    Solves p + u(p) = point. Small steps: a fold does not set it swinging.
    """
    sides = np.array(field.shape[1:])
    goal = points * sides - 0.5
    at = goal.copy()
    for _ in range(60):
        shift = [map_coordinates(u, at.T, order=1, mode="nearest") for u in field]
        at += 0.5 * (goal - at - np.transpose(shift))
    return (at + 0.5) / sides


def spread(mouths):
    """Return the standard deviation of the mouth's height over people, pixels of 128.

    In brackets follows that without the person who is farthest from the mean: one whom every method
    fails on decides of the other.
    """
    heights = 128 * np.array(mouths)[..., 0].mean(axis=1)
    farthest = np.abs(heights - heights.mean()).argmax()
    return f"{heights.std():.2f} ({np.delete(heights, farthest).std():.2f})"


def least_jacobian(field, oval):
    """Return how much area shrinks at most in the oval."""
    (yy, yx), (xy, xx) = (np.gradient(u) for u in field)
    return ((1 + yy) * (1 + xx) - yx * xy)[oval].min()


def displacements(count, shape):
    """Return smooth random fields, (N, 2, *shape), in pixels of their own."""
    drawn = np.random.default_rng(SEED).normal(size=(count, 2, *shape))
    smooth = gaussian_filter(drawn, (0, 0, SMOOTH / 2, SMOOTH / 2))
    deviation = smooth.std(axis=(2, 3), keepdims=True)
    return np.float32(smooth / deviation * (SPREAD / 2))


def displaced(image, field):
    """Return the grey features of an image that was moved by a field."""
    grey = unit(image).mean(axis=2)[None]
    after = warp(grey, resize_field(field, *grey.shape[1:]))
    return features_of_reduced(np.ascontiguousarray(np.clip(after, 0, 1).transpose(1, 2, 0)))


def length(field, oval):
    """Return the root mean square of displacements in the oval, pixels of 128."""
    return 2 * np.sqrt(np.square(field[:, oval]).sum(axis=0).mean())


def undone(faces, geometry, make, template):
    """Return what remains of known displacements: to the face itself, and to the mean face."""
    _, oval = weights_and_oval(geometry)
    register = make(template)
    alone, mean = [], []
    for image, features, w in zip(
        faces.images, faces.grey, displacements(len(faces.grey), geometry.fields), strict=True
    ):
        after = displaced(image, w)
        itself = make(Template(geometry, features.half))(after)
        alone.append(length(itself - invert(w), oval))
        mean.append(length(compose(w, register(after)) - register(features), oval))
    return float(np.mean(alone)), float(np.mean(mean))


def means(geometry, features, parts):
    """Return the template made of all, and that for the people of each fold, of the others."""

    def mean(features):
        return Template(geometry, register_to_mean(geometry, features)[1])

    apart = {}
    for fold in set(parts):
        others = [each for each, part in zip(features, parts, strict=True) if part != fold]
        apart[fold] = mean(others or features)
    return mean(features), apart


def registered(features, make, templates, parts):
    """Return the fields of all people, to the mean of all, and each to the mean of the others."""
    everyone, apart = templates
    register = make(everyone)
    together = [register(each) for each in features]
    held_out = {fold: make(template) for fold, template in apart.items()}
    return together, [held_out[p](each) for each, p in zip(features, parts, strict=True)]


def alignment(geometry, expressions, parts):
    """Return the rows of the table by title: cells by column."""
    _, oval = weights_and_oval(geometry)
    templates = {
        (name, kind): means(geometry, getattr(faces, kind), parts)
        for name, faces in expressions.items()
        for kind in ("grey", "colour")
    }
    rows = {}
    ours = methods()[OURS]
    ways = {title: (make, "grey") for title, make in methods().items() if make is not None}
    ways[REDNESS] = (ours, "colour")
    for title, (make, kind) in ways.items():
        rows[title] = cells = {}
        least = []
        for name, faces in expressions.items():
            both = registered(getattr(faces, kind), make, templates[name, kind], parts)
            least += [least_jacobian(field, oval) for fields in both for field in fields]
            if faces.mouths is None:
                continue
            for what, fields in zip((name, f"{name}, held out"), both, strict=True):
                at = [in_frame(*each) for each in zip(fields, faces.mouths, strict=True)]
                cells[what] = spread(at)
        cells["least Jacobian"] = f"{min(least):.2f}"
    first, faces = next(iter(expressions.items()))
    template, _ = templates[first, "grey"]
    for title, (make, kind) in ways.items():
        if kind == "grey":
            alone, mean = undone(faces, geometry, make, template)
            rows[title] |= {"to itself": f"{alone:.2f}", "to the mean": f"{mean:.2f}"}
    before = rows[EYES_ALONE] = {"least Jacobian": "1.00"}
    for name, faces in expressions.items():
        if faces.mouths is not None:
            before[name] = before[f"{name}, held out"] = spread(faces.mouths)
    known = displacements(len(faces.grey), geometry.fields)
    moved_by = np.mean([[length(invert(w), oval), length(w, oval)] for w in known], axis=0)
    before |= dict(zip(("to itself", "to the mean"), map("{:.2f}".format, moved_by), strict=True))
    return rows


def in_turn(functions, repeat):
    """Return the median milliseconds of the processor that functions take, run in turn.

    Of the processor: other programs do not count.
    """
    runs = []
    for _ in range(repeat + 1):
        for function in functions.values():
            time.sleep(PAUSE)
            start = time.process_time()
            function()
            runs.append(1e3 * (time.process_time() - start))
    count = len(functions)
    medians = [statistics.median(runs[count + n :: count]) for n in range(count)]
    return dict(zip(functions, medians, strict=True))


def times(geometry, faces, repeat):
    """Return the milliseconds a face by title."""
    template = Template(geometry, register_to_mean(geometry, faces.grey)[1])
    colours = Template(geometry, register_to_mean(geometry, faces.colour)[1])
    there = {title: make(template) for title, make in methods().items() if make is not None}
    features = faces.grey[:TIMED]

    def all_of(register, features):
        for each in features:
            register(each)

    runs = {title: partial(all_of, register, features) for title, register in there.items()}
    runs[REDNESS] = partial(all_of, colours.register, faces.colour[:TIMED])
    found = in_turn(runs, repeat)
    return {title: ms / len(features) for title, ms in found.items()}


def other_times(templates, sources, targets, expression, repeat):
    """Return the milliseconds of other parts by what they are."""
    geometry, frame = templates.geometry, templates.frames[expression]
    template = templates.source_template
    source, target = (unit(faces.images[0]) for faces in (sources, targets))
    planes, wanted = (np.ascontiguousarray(i.transpose(2, 0, 1)) for i in (source, target))
    before, after = sources.colour[0], targets.colour[0]
    field = templates.source_field(before)
    white = eye_white_of(geometry, before, field) / templates.eye_white
    whole = resize_field(field, *planes.shape[1:])
    places = np.indices(planes.shape[1:], np.float32) + whole
    to = templates.target_templates[expression]

    def by_scipy():
        for plane in planes:
            map_coordinates(plane, places, order=3, mode="nearest")

    size = "x".join(map(str, source.shape))
    runs = {
        f"features of an image of {size}": lambda: features_of(source),
        "registering a face from one start, with redness": lambda: template.register(before),
        "registering a face from four starts, with redness": lambda: template.best(before),
        f"moving an image of {size}": lambda: warp(planes, whole),
        "the same by scipy.ndimage.map_coordinates, order 3": by_scipy,
        "a pair moved into its frame (target registered twice)": lambda: framed(
            frame, to, planes, before, field, white, wanted, after
        ),
    }
    return in_turn(runs, repeat)


def table(rows):
    """Return rows of cells as Markdown, the first being the head."""
    first, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([first, "|---" * len(rows[0]) + "|", *rest])


def measure(pairs, expression, drawn, folds, repeat):
    """Return the text of a section."""
    subjects = [subject for subject in pairs.subjects if expression in subject.targets]
    parts = [part_of(subject, folds) for subject in subjects]
    sources, targets = (faces_of(subjects, name, drawn) for name in (None, expression))
    size = sources.images[0].shape[:2]
    numbers = range(len(subjects))
    templates = templates_of(size, sources.images, {expression: (numbers, targets.images)})
    geometry = templates.geometry
    expressions = {"neutral": sources, expression: targets}
    rows = alignment(geometry, expressions, parts)
    took = times(geometry, sources, repeat)
    others = other_times(templates, sources, targets, expression, repeat)
    heights = [f"{name}{more}" for name in expressions for more in ("", ", held out")]
    columns = [*heights, "least Jacobian", "to itself", "to the mean"]
    head = ["", "ms a face", "times ours", *columns]
    lines = [head]
    for title in (EYES_ALONE, *methods(), REDNESS):
        cells = rows.get(title)
        if cells is None:
            lines.append([title, NO_OPENCV, *[""] * (len(head) - 2)])
            continue
        ms = took.get(title)
        time = ["", ""] if ms is None else [f"{ms:.2f}", f"{ms / took[OURS]:.2f}"]
        lines.append([title, *time, *(cells.get(column, "") for column in columns)])
    what = f"{len(subjects)} people, {folds} folds by name; the mouth's height "
    if drawn:
        what += "is known."
    elif sources.mouths is None:
        what += "needs `pip install dlib-bin face-recognition-models`."
    else:
        what += "by dlib's 68 points."
    costs = [["", "ms"], *([name, f"{ms:.2f}"] for name, ms in others.items())]
    return f"{machine()}\n{what}\n\n{table(lines)}\n\n{table(costs)}\n"


def machine():
    """Return the names and versions that times depend on."""
    found = describe(1)
    cv2 = optional("cv2")
    libraries = [f"{name} {version(name)}" for name in ("scikit-image", "SciPy")]
    libraries += [] if cv2 is None else [f"OpenCV {cv2.__version__}"]
    return (
        f"{found['processor']}, one thread, Python {found['python']}, NumPy {found['numpy']},\n"
        f"Numba {found['numba']}, {', '.join(libraries)}."
    )


def with_section(text, title, body):
    """Return a file's text with a section renewed, or added before the last one."""
    intro, *sections = text.rstrip("\n").split("\n\n## ")
    new = f"{title}\n\n{body.rstrip()}"
    titles = [section.split("\n", 1)[0] for section in sections]
    if title in titles:
        sections[titles.index(title)] = new
    else:
        sections.insert(len(sections) - 1, new)
    return "\n\n## ".join([intro, *sections]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="aligned faces; by default faces are drawn")
    parser.add_argument("--pairs", type=int, default=80, help="number of drawn people")
    parser.add_argument("--target", default="happy", help="the expression besides neutral")
    parser.add_argument("--title", help="of the section; by default what the faces are")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=25, help="runs of what is timed")
    parser.add_argument("--write", action="store_true", help="renew the section of the file")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="mlr-registration-") as folder,
        limited(1),
        blas_threads(1),
    ):
        if options.data is None:
            write_samples(folder, pairs=options.pairs, target=[options.target], seed=SEED)
        pairs = find_pairs(options.data or folder, target=[options.target])
        drawn = options.data is None
        body = measure(pairs, options.target, drawn, options.folds, options.repeat)
    title = options.title or f"{len(pairs.subjects)} {'drawn ' * drawn}faces"
    print(f"## {title}\n\n{body}", end="")
    if options.write:
        text = with_section(RESULTS.read_text(), title, body)
        with replacing(RESULTS, force=True) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
