"""Compare the registration of faces with optical flow of other libraries: time and alignment.

    python -m benchmarks.registration [DATA] [--title TITLE] [--write]

DATA is a folder of aligned faces in expression folders; by default faces are drawn. All methods get
the same features, local luminance at 64 px, and the same templates, made by the program; one
thread, processor time, medians of runs in turn. OpenCV takes part where it is installed
(``pip install opencv-python-headless``). The alignment is judged by

- the height of the mouth in the template's frame, whose standard deviation over subjects should be
  small. It is known for drawn faces; for others dlib's predictor of 68 points finds it, where it is
  installed (``pip install dlib-bin face-recognition-models``). Its licence allows research alone:
  it judges here, and the program does not use it;
- known displacements: faces warped by smooth random fields are registered to themselves before the
  warp, and to the mean face, where they should end up as they do without it.

``--write`` renews the section TITLE of ``benchmarks/results/registration.md`` and leaves all else.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.registration import optical_flow_ilk, optical_flow_tvl1
from threadpoolctl import threadpool_limits

from benchmarks.quality import part_of
from benchmarks.tables import machine, table
from mlr.bench.stages import PAUSE
from mlr.core.alignment import EYES
from mlr.core.registration.features import features_of_reduced
from mlr.core.registration.fields import area_averaged, compose, invert, resize_field, warp
from mlr.core.registration.geometry import feature_size, weights_and_oval
from mlr.core.registration.groupwise import register_to_mean, templates_of
from mlr.core.registration.register import Template
from mlr.core.registration.search import Candidate, Search
from mlr.io.files import replacing
from mlr.io.images import read_image, resized
from mlr.io.pairs import find_pairs
from mlr.photo.detect import load_dlib_model
from mlr.samples import sample
from mlr.samples.subjects import Mouth, Shot, subject_of
from mlr.utils.threads import limited

RESULTS = Path(__file__).parent / "results" / "registration.md"
SEED = 0  # of drawn faces and of displacements
TIMED = 4  # faces that are registered in a run
SPREAD, SMOOTH = 3.0, 16.0  # deviation and blur of known displacements, pixels of 128
RANGE = 3.0  # features from -3 to 3 become intensities from 0 to 1 for flows
NEAR = 3  # pixels; of 3, 5, 7 (the default) and 10 the radius that aligned mouths best
POINTS = "shape_predictor_68_face_landmarks.dat"
MOUTH = slice(48, 68)  # of the 68 points
#: Of the face in an image of 512 px, for the predictor: left, top, right, bottom; and the margin.
SIDE, BOX, MARGIN = 512, (50, 80, 462, 480), 100
SHIFTS = (-16, 0, 16)  # of the box, in pixels: the mean of several predictions is more precise
OURS, SEARCHED, REDNESS, EYES_ALONE = "mlr", "mlr, searched", "mlr, with redness", "eyes alone"
NO_OPENCV = "needs `pip install opencv-python-headless`"


class Faces(NamedTuple):
    """Images of one expression, their features, and the mouths where they are known."""

    images: list  # uint8, (height, width, channels)
    grey: list  # Features of their luminance
    colour: list  # Features
    mouths: np.ndarray | None  # (N, points, 2): (y, x) as fractions of the sides


def luminance(features):
    """Return the first feature, mostly in [0, 1]."""
    return features.half[..., 0] * np.float32(0.5 / RANGE) + np.float32(0.5)


def flow(function, template):
    """Return a registration of features by a flow of scikit-image."""
    fixed = luminance(template)
    return lambda features: function(fixed, luminance(features))


def dis(cv2, preset, template):
    """Return a registration of features by a flow of OpenCV."""

    def as_8bit(features):
        return np.clip(np.rint(255 * luminance(features)), 0, 255).astype(np.uint8)

    def register(features):
        found = method.calc(fixed, as_8bit(features), None)
        return np.ascontiguousarray(found[..., ::-1].transpose(2, 0, 1))

    method, fixed = cv2.DISOpticalFlow_create(preset), as_8bit(template)
    return register


def optional(name):
    """Return a module, or None if it is not installed."""
    return import_module(name) if find_spec(name) else None


def searched(template):
    """Return the registration of features that searches the face first, as synthesis does."""
    search = Search([Candidate(template)])
    return lambda features: search.find(features).field


def methods():
    """Return functions from a template to a registration, by title; None where one is missing."""
    found = {
        OURS: lambda template: template.register,
        SEARCHED: searched,
        "scikit-image, ILK": partial(flow, optical_flow_ilk),
        f"scikit-image, ILK, radius {NEAR}": partial(flow, partial(optical_flow_ilk, radius=NEAR)),
        "scikit-image, TV-L1": partial(flow, optical_flow_tvl1),
    }
    cv2 = optional("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)
    for name in ("ultrafast", "fast", "medium"):
        preset = cv2 and getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{name.upper()}")
        found[f"OpenCV, DIS {name}"] = None if cv2 is None else partial(dis, cv2, preset)
    return found


def read(path):
    """Return an 8-bit image of the size that features are taken from."""
    pixels = read_image(path).pixels
    image = np.float32(pixels) / np.iinfo(pixels.dtype).max
    return np.uint8(np.rint(255 * area_averaged(image, *feature_size(*image.shape[:2]))))


def unit(image):
    return image * np.float32(1 / 255)


def true_mouth(subject, expression):
    """Return the corners of the mouth of a drawn face, and the lips' edges between, (4, 2)."""
    shot = Shot(SEED, subject, expression)
    m = Mouth(subject_of(SEED, subject), shot)
    left, right = ((m.y + y, m.x + x) for y, x in zip(m.corners, (-m.half, m.half), strict=True))
    upper, lower = (m.y - m.open_up - m.lip_upper, m.x), (m.y + m.open_down + m.lip_lower, m.x)
    middle = EYES[0][1], (EYES[0][0] + EYES[1][0]) / 2
    (across, down), (wide, tall) = shot.shift, shot.scale
    points = np.array([left, right, upper, lower])
    return (points + np.array([down, across])) * (tall, wide) + middle


def dlib_mouths(images):
    """Return the points of mouths, or None without the predictor."""
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
        for x in SHIFTS:
            for y in SHIFTS:
                left, top, right, bottom = (MARGIN + side for side in BOX)
                shape = predictor(large, dlib.rectangle(left + x, top + y, right + x, bottom + y))
                points.append([(p.y, p.x) for p in shape.parts()][MOUTH])
        found.append((np.mean(points, axis=0) - MARGIN + 0.5) / SIDE)
    return np.array(found)


def read_faces(pairs, expression, drawn):
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
    """Return the positions of points (y, x) of an image in the frame, fractions of the sides.

    Solves p + u(p) = point, in small steps: folds would make large ones oscillate.
    """
    sides = np.array(field.shape[1:])
    goal = points * sides - 0.5
    at = goal.copy()
    for _ in range(60):
        shift = [map_coordinates(u, at.T, order=1, mode="nearest") for u in field]
        at += 0.5 * (goal - at - np.transpose(shift))
    return (at + 0.5) / sides


def spread(mouths):
    """Return the standard deviation of the mouth's height over subjects, pixels of 128.

    The one in brackets omits the subject farthest from the mean, which may dominate the other.
    """
    heights = 128 * np.array(mouths)[..., 0].mean(axis=1)
    farthest = np.abs(heights - heights.mean()).argmax()
    return f"{heights.std():.2f} ({np.delete(heights, farthest).std():.2f})"


def least_jacobian(field, oval):
    """Return the least Jacobian determinant of a field in the oval."""
    (yy, yx), (xy, xx) = (np.gradient(u) for u in field)
    return ((1 + yy) * (1 + xx) - yx * xy)[oval].min()


def displacements(count, shape):
    """Return smooth random fields, (N, 2, *shape), in pixels of the features."""
    drawn = np.random.default_rng(SEED).normal(size=(count, 2, *shape))
    smooth = gaussian_filter(drawn, (0, 0, SMOOTH / 2, SMOOTH / 2))
    deviation = smooth.std(axis=(2, 3), keepdims=True)
    return np.float32(smooth / deviation * (SPREAD / 2))


def displaced(image, field):
    """Return the grey features of an image warped by a field."""
    grey = unit(image).mean(axis=2)[None]
    after = warp(grey, resize_field(field, *grey.shape[1:]))
    return features_of_reduced(np.ascontiguousarray(np.clip(after, 0, 1).transpose(1, 2, 0)))


def length(field, oval):
    """Return the root mean square of displacements in the oval, pixels of 128."""
    return 2 * np.sqrt(np.square(field[:, oval]).sum(axis=0).mean())


def undone(faces, geometry, make, template):
    """Return the residual of known displacements: to the face itself, and to the mean face."""
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
    """Return the template of all faces, and for each fold the template of the others."""

    def mean(features):
        return Template(geometry, register_to_mean(geometry, features)[1])

    apart = {}
    for fold in set(parts):
        others = [each for each, part in zip(features, parts, strict=True) if part != fold]
        apart[fold] = mean(others or features)
    return mean(features), apart


def registered(features, make, templates, parts):
    """Return the fields of all faces to the mean of all, and to the mean of the other folds."""
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
    """Return the median processor time in milliseconds of functions that are run in turn."""
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
    """Return the milliseconds for a face by title."""
    template = Template(geometry, register_to_mean(geometry, faces.grey)[1])
    colours = Template(geometry, register_to_mean(geometry, faces.colour)[1])
    registrations = {title: make(template) for title, make in methods().items() if make is not None}
    features = faces.grey[:TIMED]

    def all_of(register, features):
        for each in features:
            register(each)

    runs = {title: partial(all_of, register, features) for title, register in registrations.items()}
    runs[REDNESS] = partial(all_of, colours.register, faces.colour[:TIMED])
    found = in_turn(runs, repeat)
    return {title: ms / len(features) for title, ms in found.items()}


def measure(pairs, expression, drawn, folds, repeat):
    """Return the text of a section."""
    subjects = [subject for subject in pairs.subjects if expression in subject.targets]
    parts = [part_of(subject, folds) for subject in subjects]
    sources, targets = (read_faces(subjects, name, drawn) for name in (None, expression))
    geometry = templates_of(sources.images[0].shape[:2], sources.images, {}).geometry
    expressions = {"neutral": sources, expression: targets}
    rows = alignment(geometry, expressions, parts)
    took = times(geometry, sources, repeat)
    heights = [f"{name}{more}" for name in expressions for more in ("", ", held out")]
    columns = [*heights, "least Jacobian", "to itself", "to the mean"]
    lines = []
    for title in (EYES_ALONE, *methods(), REDNESS):
        cells, ms = rows.get(title), took.get(title)
        if cells is None:
            lines.append([title, NO_OPENCV, *[""] * (len(columns) + 1)])
            continue
        time = ["", ""] if ms is None else [f"{ms:.2f}", f"{ms / took[OURS]:.2f}"]
        lines.append([title, *time, *(cells.get(column, "") for column in columns)])
    what = f"{len(subjects)} subjects, {folds} folds by name; the mouth's height "
    if drawn:
        what += "is known."
    elif sources.mouths is None:
        what += "needs `pip install dlib-bin face-recognition-models`."
    else:
        what += "by dlib's 68 points."
    cv2 = optional("cv2")
    libraries = [f"{name} {version(name)}" for name in ("scikit-image", "SciPy")]
    libraries += [] if cv2 is None else [f"OpenCV {cv2.__version__}"]
    text = table(["", "ms a face", "times ours", *columns], lines)
    return f"{machine(1)},\n{', '.join(libraries)}.\n{what}\n\n{text}\n"


def with_section(text, title, body):
    """Return a text with a section replaced, or added before the last one."""
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
    parser.add_argument("--pairs", type=int, default=80, help="number of drawn subjects")
    parser.add_argument("--target", default="happy", help="the target expression")
    parser.add_argument("--title", help="of the section; by default what the faces are")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=25, help="runs of what is timed")
    parser.add_argument("--write", action="store_true", help="renew the section in the results")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="mlr-registration-") as folder,
        limited(1),
        threadpool_limits(1),
    ):
        if options.data is None:
            sample(folder, pairs=options.pairs, target=[options.target], seed=SEED)
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
