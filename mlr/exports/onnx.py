"""A model as a graph of standard ONNX operators, for other programs.

The graph computes what `Model.synthesize` does, letters in comments are those of
`mlr.core.registration.synthesis`. Blurs, derivatives and changes of size are linear along rows and
along columns: each is a product with two matrices, which are made by the program's own functions.
Steps that repeat are loops of the graph; the images are gone through by one, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr._version import __version__, install
from mlr.core.model import LUMA, Model, WantedChange
from mlr.core.registration import features, register, search, synthesis, templates
from mlr.core.registration.fields import (
    INVERSIONS,
    area_averaged,
    coefficients,
    enlarged,
    halved,
)
from mlr.core.registration.geometry import Geometry, mask_of, weights_and_oval
from mlr.errors import ModelError, OptionError
from mlr.kernels.blur import blur

OPSET, IR = 16, 8  # GridSample came with 16; readers of that time know this format
SMALL = 64  # numbers of an array that need not be stored in half precision where that is exact

Array = npt.NDArray[Any]
Planes = Callable[[Array], Array]


def render(
    model: Model,
    target: str | Mapping[str, float] | None = None,
    region: str | Sequence[str] = (),
) -> bytes:
    """Return a model as the bytes of an ONNX file.

    Parameters
    ----------
    model : Model
    target : str or mapping of str to float, optional
        The expression, or the share of each in a mix. May be omitted if the model has one.
    region : str or sequence of str
        The parts of the face to change, by default all of it.

    Raises
    ------
    OptionError
        If onnx is not installed, a share is out of range, or a region is unknown.
    ModelError
        If the model does not have the expression, or not all of its values are finite.
    """
    try:
        import onnx
    except ImportError:
        raise OptionError(f"needs onnx, which is not installed: {install('onnx')}") from None

    wanted = model.change_of(target, None, region)
    graph = Graph()
    inputs = {"image": ["N", 3, *model.shape[1:]], "strength": ["N or 1"]}
    if any(model.appearances[name].styled for name in wanted.shares if model.appearances):
        inputs["style"] = ["N or 1"]
    image, strength, *style = (Value(graph, name) for name in inputs)
    batch = graph("Slice", graph("Shape", image), [0], [1])
    numbers = [graph("Expand", each, batch) for each in (strength, *style)]
    if model.registered is None:
        changed = _plain(graph, model, wanted, image, numbers[0])
    else:
        face = _Face(graph, model, wanted)

        def one(at: Value) -> tuple[list[Value], list[Value]]:
            own = (graph("Gather", each, at) for each in (image, *numbers))
            return [], [face.changed(*own)]

        (changed,) = graph.loop(graph("Squeeze", batch), [], one, 1)
    changed = graph("Reshape", changed, graph("Shape", image), allowzero=1)  # of no images, too
    graph("Clip", changed, 0.0, 1.0, into="output")
    for array in graph.arrays.values():
        if not np.isfinite(array).all():
            raise ModelError("the model has values that are not finite; train it again")

    helper = onnx.helper
    shapes = {**inputs, "output": inputs["image"]}
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()]
    made = helper.make_model(
        helper.make_graph(graph.casts + graph.nodes, "mlr", ends[:-1], ends[-1:], arrays),
        producer_name="mlr",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    record = {
        "software": f"mlr {__version__}",
        "expressions": wanted.shares,
        "regions": wanted.regions,
        "eyes": model.info.eyes,
        "model": model.sha256,
        "licence": model.info.licence,
    }
    helper.set_model_props(made, {name: json.dumps(value) for name, value in record.items()})
    onnx.checker.check_model(made)
    return made.SerializeToString()


class Value:
    """The name of a tensor in a graph; arithmetic adds nodes."""

    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with values to them

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: Any) -> Value:
        return self.graph("Add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Value:
        return self.graph("Sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.graph("Sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.graph("Mul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        return self.graph("Div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph("Div", other, self)


class Graph:
    """The nodes of a graph, and the arrays that they use, float32 or int64."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.casts: list[Any] = []  # nodes that come first
        self.arrays: dict[str, Array] = {}
        self._names: dict[Any, str] = {}  # of arrays by type, shape and bytes
        self._numbers = count()

    def __call__(self, op: str, *inputs: Any, into: str | None = None, **attributes: Any) -> Value:
        """Add a node, whose inputs are values, arrays or numbers."""
        (output,) = self._add(op, inputs, 1, into, **attributes)
        return output

    def _add(
        self, op: str, inputs: Sequence[Any], outputs: int, into: str | None = None, **kept: Any
    ) -> list[Value]:
        from onnx.helper import make_node

        names = [each.name if isinstance(each, Value) else self._array(each) for each in inputs]
        made = [into or f"v{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(make_node(op, names, made, **kept))
        return [Value(self, name) for name in made]

    def _array(self, value: Any) -> str:
        from onnx import TensorProto
        from onnx.helper import make_node

        if value is None:
            return ""  # an optional input that is not given
        array = np.array(value, order="C")
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._names:
            name = self._names[key] = f"a{len(self._names)}"
            with np.errstate(over="ignore", invalid="ignore"):
                half = array.astype(np.float16)
            if array.dtype == np.float32 and array.size > SMALL and (half == array).all():
                self.arrays[f"{name}h"] = half
                self.casts.append(make_node("Cast", [f"{name}h"], [name], to=TensorProto.FLOAT))
            else:
                self.arrays[name] = array
        return self._names[key]

    def loop(
        self,
        times: Any,
        state: Sequence[Any],
        body: Callable[..., tuple[Sequence[Value], Sequence[Value]]],
        stacked: int = 0,
    ) -> list[Value]:
        """Repeat a body; return the last state, and the stacks of what each turn returns.

        The body is given the number of the turn and the state; it returns the next state and the
        values to be stacked.
        """
        from onnx import TensorProto
        from onnx.helper import make_graph, make_tensor_value_info

        def ends(values: Sequence[Value], first: Sequence[int] = ()) -> list[Any]:
            types = [*first, *[TensorProto.FLOAT] * (len(values) - len(first))]
            return [
                make_tensor_value_info(value.name, kind, [] if k < len(first) else None)
                for k, (value, kind) in enumerate(zip(values, types, strict=True))
            ]

        given = [Value(self, f"v{next(self._numbers)}") for _ in range(2 + len(state))]
        outer, self.nodes = self.nodes, []
        results = [self("Identity", each) for part in body(given[0], *given[2:]) for each in part]
        going = self("Identity", given[1])
        inner, self.nodes = self.nodes, outer
        graph = make_graph(
            inner,
            "body",
            ends(given, (TensorProto.INT64, TensorProto.BOOL)),
            ends([going, *results], (TensorProto.BOOL,)),
        )
        return self._add("Loop", [times, None, *state], len(state) + stacked, body=graph)

    def sum(self, value: Value, *axes: int, kept: bool = True) -> Value:
        """Return sums over axes."""
        return self("ReduceSum", value, list(axes), keepdims=int(kept))

    def mean(self, value: Value, *axes: int) -> Value:
        """Return means over axes, which stay."""
        return self("ReduceMean", value, axes=axes)

    def part(self, value: Value, axis: int, first: int, end: int) -> Value:
        """Return the elements first .. end - 1 along an axis."""
        return self("Slice", value, [first], [end], [axis])

    def ramp(self, value: Value, low: float, high: float) -> Value:
        """Return `mlr.core.registration.search.ramp`."""
        return self("Clip", (value - low) / (high - low), 0.0, 1.0)


def _matrix(planes: Planes, size: int) -> Array:
    """Return the matrix of a function of planes (N, h, w) that works on columns alone."""
    columns = planes(np.repeat(np.eye(size, dtype=np.float32)[:, :, None], 8, axis=2))
    return np.ascontiguousarray(columns[:, :, 4].T)


def _slopes(size: int) -> tuple[Array, Array]:
    """Return the matrices of the two parts of a Sobel operator over 8; edges repeat."""
    at = np.arange(size)
    one = np.eye(size)
    above, below = one[np.maximum(at - 1, 0)], one[np.minimum(at + 1, size - 1)]
    return (below - above) / 8, above + 2 * one + below


def _with_channels(graph: Graph, image: Value, channels: int) -> Value:
    """Return the luma of an image (N, 3, height, width), or the image itself."""
    return image if channels == 3 else graph.sum(image * LUMA[:, None, None], 1)


def _regression(graph: Graph, model: Model, expression: str, images: Value) -> Value:
    """Return f(x) for images (N, channels, height, width)."""
    weights = model.weights[model.require(expression)]
    size = np.array(weights.shape[2:])
    taps = np.clip(model.receptive_field.taps, -size, size)  # farther, all are alike
    reach = np.abs(taps).max(axis=0)
    pads = [0, 0, *reach, 0, 0, *reach]
    padded = graph("Pad", images, pads, mode="edge" if model.edge else "constant")
    terms = [
        graph("Slice", padded, reach + tap, reach + tap + size, [2, 3]) * weights[:, k]
        for k, tap in enumerate(taps)
    ]
    return graph("Sum", *terms, weights[:, -1])


def _plain(
    graph: Graph, model: Model, wanted: WantedChange, images: Value, strength: Value
) -> Value:
    """Return images (N, 3, height, width) changed by a model of the recipe paper."""
    source, size = images, model.shape[1:]
    if model.channels is None:
        source = _with_channels(graph, images, model.shape[0])
    changes = [
        (_regression(graph, model, name, source) - source) * share
        for name, share in wanted.shares.items()
    ]
    change = graph("Sum", *changes) * graph("Reshape", strength, [-1, 1, 1, 1])
    if wanted.regions:
        change *= Geometry(size, model.info.eyes).regions(wanted.regions, *size)
    return images + change


class _Face:
    """The change of one face by a model of the recipe best, as nodes."""

    def __init__(self, graph: Graph, model: Model, wanted: WantedChange) -> None:
        assert model.registered is not None
        self.graph, self.model, self.wanted = graph, model, wanted
        self.registered, self.search = model.registered, model.registered.search
        self.geometry = model.registered.geometry
        self.size, self.half = self.geometry.size, self.geometry.fields
        self.quarter = self.half[0] // 2, self.half[1] // 2
        self.weights, self.oval = weights_and_oval(self.geometry)

    # --- planes (N, count, height, width) and fields (N, 2, height, width) ---

    def linear(self, planes: Value, function: Planes, size: tuple[int, int]) -> Value:
        """Return a linear function of planes, along columns and along rows."""
        rows, columns = (_matrix(function, side) for side in size)
        return self.both(planes, rows, columns)

    def both(self, planes: Value, rows: Array, columns: Array) -> Value:
        return self.graph("MatMul", self.graph("MatMul", rows, planes), columns.T)

    def blur(self, planes: Value, sigma: float, size: tuple[int, int]) -> Value:
        return self.linear(planes, lambda each: blur(each, sigma, threads=False), size)

    def halved(self, planes: Value, size: tuple[int, int]) -> Value:
        rows, columns = (np.kron(np.eye(side // 2), [[0.5, 0.5]]) for side in size)
        return self.both(planes, rows, columns)

    def enlarged(self, planes: Value, old: tuple[int, int], new: tuple[int, int]) -> Value:
        if old == new:
            return planes
        rows, columns = (
            _matrix(lambda each, side=side: enlarged(each, side, 8), before)  # type: ignore[misc]
            for before, side in zip(old, new, strict=True)
        )
        return self.both(planes, rows, columns)

    def resized(self, field: Value, old: tuple[int, int], new: tuple[int, int]) -> Value:
        factors = np.array(new, np.float32) / old
        return self.enlarged(field, old, new) * factors[:, None, None]

    def sample(self, planes: Value, positions: Value, size: tuple[int, int]) -> Value:
        """Return planes of a size at positions (N, 2, height, width); edges repeat."""
        across = self.graph("Gather", positions, [1, 0], axis=1)  # of planes: faster
        scaled = across * (2 / (np.array(size[::-1])[:, None, None] - 1)) - 1.0
        grid = self.graph("Transpose", scaled, perm=[0, 2, 3, 1])
        return self.graph("GridSample", planes, grid, align_corners=1, padding_mode="border")

    def look_up(self, planes: Any, field: Any, size: tuple[int, int], many: bool = False) -> Value:
        """Return planes(p + field(p)); with ``many`` the same planes for each of the fields."""
        if many:
            count = self.graph("Shape", field, start=0, end=1)
            planes = self.graph("Expand", planes, self.graph("Concat", count, [1, 1, 1], axis=0))
        return self.sample(planes, self.graph("Add", field, np.indices(size, float)), size)

    def compose(self, outer: Value, inner: Any, size: tuple[int, int]) -> Value:
        return self.look_up(outer, inner, size) + inner

    def inverted(self, field: Value, size: tuple[int, int]) -> Value:
        start = self.graph("Neg", field)
        return self.graph.loop(
            INVERSIONS,
            [start],
            lambda _, found: ([self.graph("Neg", self.look_up(field, found, size))], []),
        )[0]

    def warped(self, planes: Value, field: Value) -> Value:
        """Return an image of the full size moved by its cubic B-spline.

        Two neighbouring coefficients are weighted by one look-up between them.
        """
        graph, size = self.graph, self.size
        spline = self.linear(planes, coefficients, size)
        last = np.array(size, float)[:, None, None] - 1
        at = graph("Min", graph("Max", field + np.indices(size, float), 0.0), last)
        first = graph("Min", graph("Floor", at), last - 1)
        t = at - first
        left = 1.0 - t
        w0, w3 = left * left * left * (1 / 6), t * t * t * (1 / 6)
        near = w0 + (t * t * (t - 2.0) * 3.0 + 4.0) * (1 / 6)
        far = 1.0 - near
        places = (first + (near - w0) / near, near), (first + w3 / far + 2.0, far)
        terms = [
            self.sample(
                spline,
                graph("Concat", graph.part(y, 1, 0, 1), graph.part(x, 1, 1, 2), axis=1),
                (size[0] + 2, size[1] + 2),
            )
            * (graph.part(down, 1, 0, 1) * graph.part(across, 1, 1, 2))
            for y, down in places
            for x, across in places
        ]
        return graph("Sum", *terms)

    # --- registration ---

    def features(self, image: Value) -> None:
        """Keep the features of an image (1, channels, height, width), see `features_of`."""
        graph, whole = self.graph, self.geometry.features
        rows, columns = (
            _matrix(
                lambda each, side=side: area_averaged(each.transpose(1, 2, 0), side, 8).transpose(
                    2, 0, 1
                ),  # type: ignore[misc]
                before,
            )
            for before, side in zip(self.size, whole, strict=True)
        )
        reduced = self.both(image, rows, columns)
        self.luminance = graph.mean(reduced, 1)
        self.coloured: Any = np.float32(0)  # 1, or 0 for a grey image
        redness = self.luminance * 0.0
        if self.model.shape[0] == 3:
            red, green = (graph.part(reduced, 1, n, n + 1) for n in (0, 1))
            apart = graph("ReduceMax", graph("Abs", reduced - green), keepdims=0)
            self.coloured = graph("Where", graph("Less", apart, features.GREY), 0.0, 1.0)
            redness = (red - green) / (self.luminance + 0.15) * self.coloured
        planes = graph("Concat", self.luminance, redness, axis=1)
        planes -= self.blur(planes, features.SIGMA, whole)
        deviation = graph("Sqrt", self.blur(planes * planes, features.SIGMA, whole))
        self.found = self.halved(planes / (deviation + features.FLOOR), whole)
        self.light = self.halved(self.luminance, whole)
        self.moving = self.derivatives(self.found, self.half)

    def derivatives(self, planes: Value, size: tuple[int, int]) -> Value:
        """Return two features with their derivatives, (1, 6, height, width)."""
        (down, beside), (across, above) = (_slopes(side) for side in size)
        three = planes, self.both(planes, down, above), self.both(planes, beside, across)
        stack = self.graph(
            "Concat", *(self.graph("Unsqueeze", each, [2]) for each in three), axis=2
        )
        return self.graph("Reshape", stack, [1, 6, *size])

    def fixed(self, index: Any, quarter: bool = False) -> Value:
        """Return features and derivatives of candidates, (N, 2, 3, height, width).

        Without redness for an image that has none.
        """
        halves = (each.template.half for each in self.search.candidates)
        tables = np.stack(
            [register.with_derivatives_of(halved(each) if quarter else each) for each in halves]
        )
        table = tables.reshape(len(tables), 2, 3, *tables.shape[2:])
        second = self.graph("Mul", self.coloured, [0.0, 1.0]) + np.array([1.0, 0.0])
        masks = self.graph("Reshape", second, [2, 1, 1, 1])
        return self.graph("Gather", table, index) * masks

    def products(self, moving: Value, fixed: Value, weight: Array, field: Value) -> Value:
        """Return q g g' and q g r, (N, 5, height, width); see `mlr.kernels.register`."""
        graph, size = self.graph, weight.shape
        looked = self.look_up(moving, field, (size[0], size[1]), many=True)
        moved = graph("Reshape", looked, [-1, 2, 3, *size])
        rest = graph.part(fixed - moved, 2, 0, 1)
        slopes = graph.part(fixed + moved, 2, 1, 3) * 0.5
        weighted = slopes * (weight / (rest * rest + 1.0))
        values = graph("Concat", slopes, rest, axis=2)
        left = graph("Gather", values, [0, 0, 1, 2, 2], axis=2)
        right = graph("Gather", weighted, [0, 1, 1, 0, 1], axis=2)
        return graph.sum(left * right, 1, kept=False)

    def refined(self, level: int, moving: Value, fixed: Value, start: Value) -> Value:
        """Return fields after the steps of a level, see `gauss_newton`."""
        graph, weight = self.graph, self.weights[level]
        (window, prior, smooth), steps = register.LEVELS[level]
        size = weight.shape[0], weight.shape[1]

        def step(_: Value, field: Value) -> tuple[list[Value], list[Value]]:
            normal = self.blur(self.products(moving, fixed, weight, field), window, size)
            pull = (self.blur(field, prior, size) - field) * register.DAMPING
            yy, yx, xx, down, across = (graph.part(normal, 1, k, k + 1) for k in range(5))
            yy, xx = yy + register.DAMPING, xx + register.DAMPING
            down, across = down + graph.part(pull, 1, 0, 1), across + graph.part(pull, 1, 1, 2)
            both = xx * down - yx * across, yy * across - yx * down
            move = graph("Concat", *both, axis=1) / (yy * xx - yx * yx)
            length = graph("Sqrt", graph("Max", graph.sum(move * move, 1), 1.0))
            return [self.blur(field + move / length, smooth, size)], []

        return graph.loop(steps, [start], step)[0]

    def correlations(self, moved: Value, fixed: Value, share: Array) -> tuple[Value, Value]:
        """Return the weighted correlation of both features and that of the first, (N,)."""
        graph = self.graph
        share = share / share.sum()
        a, b = (each - graph.sum(each * share, 2, 3) for each in (moved, fixed))
        sums = [graph.sum(left * right * share, 2, 3) for left, right in ((a, b), (a, a), (b, b))]
        both, first = [
            (graph.sum(each, 1) for each in sums),
            (graph.part(each, 1, 0, 1) for each in sums),
        ]
        found = []
        for products, energy, wanted in (both, first):
            scale = graph("Sqrt", energy * wanted)
            found.append(graph("Reshape", products / graph("Max", scale, 1e-12), [-1]))
        return found[0], found[1]

    def correlation(self, field: Value, fixed: Value, region: Array) -> Value:
        """Return `Template.correlation` of fields with candidates, (N,)."""
        moved = self.look_up(self.found, field, self.half, many=True)
        planes = self.graph("Gather", fixed, 0, axis=2)
        return self.graph("Max", *self.correlations(moved, planes, region.astype(np.float32)))

    def coarse(self) -> tuple[Value, Value]:
        """Return indices of candidates (N,) and coarse fields (N, 2, ...) to refine."""
        graph, size, bases = self.graph, self.quarter, self.search.bases
        count = len(bases)
        flat = bases.reshape(count, -1)
        pull = (search.SIGMAS**-2).astype(np.float32)
        small = self.derivatives(self.halved(self.found, self.half), size)
        features_alone = graph("Gather", small, [0, 3], axis=1)
        starts = np.zeros((len(search.STARTS) * len(self.search.candidates), count))
        starts[:, search.LOWER_FACE] = search.STARTS * len(self.search.candidates)
        index: Any = np.repeat(np.arange(len(self.search.candidates)), len(search.STARTS))
        numbers: Any = starts
        kept = min(search.PRUNED, len(index))

        def fields(numbers: Value) -> Value:
            return graph("Reshape", graph("MatMul", numbers, flat), [-1, 2, *size])

        for steps in (search.FIRST_STEPS, search.MORE_STEPS):
            fixed = self.fixed(index, quarter=True)

            def step(
                _: Value, numbers: Value, fixed: Value = fixed
            ) -> tuple[list[Value], list[Value]]:
                found = self.products(small, fixed, self.weights[0], fields(numbers))
                square = graph(
                    "Reshape", graph("Gather", found, [0, 1, 1, 2], axis=1), [-1, 1, 2, 2, *size]
                )
                weighted = graph.sum(square * bases[:, None], 3, kept=False)
                matrix = graph(
                    "MatMul", graph("Reshape", weighted, [-1, count, flat.shape[1]]), flat.T
                )
                right = graph(
                    "MatMul",
                    graph("Reshape", graph.part(found, 1, 3, 5), [-1, flat.shape[1]]),
                    flat.T,
                )
                right -= numbers * pull
                rows = graph(
                    "Concat", matrix + np.diag(pull), graph("Unsqueeze", right, [2]), axis=2
                )

                def eliminate(k: Value, rows: Value) -> tuple[list[Value], list[Value]]:
                    at = graph("Reshape", k, [1])
                    row, column = (graph("Gather", rows, at, axis=axis) for axis in (1, 2))
                    row /= graph("Gather", row, at, axis=2)
                    one = graph("Reshape", graph("Gather", np.eye(count), at), [1, count, 1])
                    return [rows - (column - one) * row], []

                (solved,) = graph.loop(count, [rows], eliminate)
                return [numbers + graph("Gather", solved, count, axis=2)], []

            (numbers,) = graph.loop(steps, [numbers], step)
            moved = self.look_up(features_alone, fields(numbers), size, many=True)
            planes = graph("Gather", fixed, 0, axis=2)
            fits, _ = self.correlations(moved, planes, self.weights[0])
            _, best = graph._add("TopK", [fits, [kept]], 2)
            index, numbers = graph("Gather", index, best), graph("Gather", numbers, best)
        found = fields(numbers)
        pairs = graph("Unsqueeze", found, [1]) - graph("Unsqueeze", found, [0])
        near = graph("ReduceMax", graph("Abs", pairs), axes=[2, 3, 4], keepdims=0)
        same = graph("Equal", graph("Unsqueeze", index, [1]), graph("Unsqueeze", index, [0]))
        alike = graph("And", graph("Less", near, search.APART), same)
        known = graph("Cast", alike, to=1)

        def choose(k: Value, chosen: Value) -> tuple[list[Value], list[Value]]:
            taken = graph.sum(graph("Gather", known, k) * chosen, 0)
            new = graph("Cast", graph("Less", taken, 0.5), to=1)
            return [chosen + graph("Gather", np.eye(kept), k) * new], []

        (chosen,) = graph.loop(kept, [np.zeros(kept)], choose)
        is_chosen = graph("Greater", chosen, 0.5)
        first, second = (
            graph.part(graph("Compress", each, is_chosen, axis=0), 0, 0, search.REFINED)
            for each in (index, found)
        )
        return first, second

    def fit(self) -> None:
        """Keep field, what it shows and trust; see `Search.find`."""
        graph, half = self.graph, self.half
        index, field = self.coarse()
        small = self.derivatives(self.halved(self.found, half), self.quarter)
        field = self.refined(0, small, self.fixed(index, quarter=True), field)
        fixed = self.fixed(index)
        field = self.refined(1, self.moving, fixed, self.resized(field, self.quarter, half))
        flat = graph("Reshape", field, [-1, 2 * half[0] * half[1]])
        numbers = graph("MatMul", flat, (self.search.to_numbers / search.SIGMAS[:, None]).T)
        price = graph.sum(numbers * numbers, 1, kept=False) * search.PRICE
        values = self.correlation(field, fixed, self.oval) - price
        best = graph("ArgMax", values)
        index, field, fixed, value = (
            graph("Gather", v, best) for v in (index, field, fixed, values)
        )

        neutral = graph("Equal", index, [0])
        candidates = self.search.candidates
        nothing = np.zeros((2, *half), np.float32)
        backs = np.stack([nothing if each.back is None else each.back for each in candidates])
        source, mouth = self.fixed([0]), self.search.mouth
        before = self.correlation(field, fixed, mouth)
        back = graph("Gather", backs, index)
        carried = self.refined(1, self.moving, source, self.compose(field, back, half))
        lost = before - self.correlation(carried, source, mouth)
        self.field = graph("Where", neutral, field, carried)
        shown = graph("Where", neutral, 0.0, graph.ramp(lost, *search.SHOWN))
        self.index, self.shown = index, shown

        moved = self.look_up(self.found, self.field, half)
        local = self.local_correlation(moved, graph("Gather", source, 0, axis=2))
        at_mouth = graph.sum(local * (mouth / mouth.sum()), 1, 2, 3, kept=False) + value
        whole = graph.ramp(value, *search.FIT) * graph.ramp(at_mouth, *search.MOUTH_FIT)
        ramp = graph.ramp(local, *search.LOCAL_FIT)
        self.trust = self.blur(ramp, search.TRUST_SIGMA, half) * whole

    def local_correlation(self, moved: Value, fixed: Value) -> Value:
        graph, flat = self.graph, register.FLAT

        def around(planes: Value) -> Value:
            return self.blur(planes, search.LOCAL_SIGMA, self.half)

        def covariance(a: Value, b: Value) -> Value:
            return graph.sum(around(a * b) - around(a) * around(b), 1)

        scale = covariance(moved, moved) * covariance(fixed, fixed)
        return (covariance(moved, fixed) + flat) / (graph("Sqrt", graph("Max", scale, 0.0)) + flat)

    # --- light ---

    def side_light(self) -> Value:
        """Return `mlr.core.registration.templates.side_light`, (1, 1, half height, half width)."""
        graph = self.graph
        framed = self.look_up(self.light, self.field, self.half)
        if not self.geometry.symmetric:
            return framed * 0.0 + 1.0
        inside = (self.oval & self.oval[:, ::-1]).astype(np.float32)
        logarithm = graph("Log", graph("Max", framed, 0.0) + templates.SIDE_FLOOR)
        sigma = templates.SIDE_BLUR * self.geometry.side(self.half[1])
        weight = np.maximum(blur(inside, sigma, threads=False), np.float32(1e-6))
        level = self.blur(logarithm * inside, sigma, self.half) / weight
        mirrored = graph("Gather", level, np.arange(self.half[1])[::-1], axis=3)
        light = graph("Exp", (level - mirrored) * 0.5)
        light /= graph.sum(light * (inside / inside.sum()), 2, 3)
        return graph("Clip", light, *templates.SIDE_LIGHTS)

    def whites(self, planes: Value, size: tuple[int, int], light: Value) -> Value:
        """Return `eye_whites_of` planes of a size, (1, count, 1, 1)."""
        graph = self.graph
        box = np.flatnonzero(templates.eye_box(self.geometry, size))
        if not box.size:
            return graph.mean(planes, 2, 3) * 0.0 + templates.DARKEST
        framed = self.look_up(planes, self.resized(self.field, self.half, size), size)
        framed /= graph("Max", self.enlarged(light, self.half, size), 1.0)
        at = templates.BRIGHTEST / 100 * (box.size - 1)
        most = box.size - int(at)
        values = graph(
            "Gather", graph("Reshape", framed, [1, -1, size[0] * size[1], 1]), box, axis=2
        )
        top, _ = graph._add("TopK", [values, [most]], 2, axis=2)
        below, above = (graph.part(top, 2, k, k + 1) for k in (most - 1, max(most - 2, 0)))
        return graph("Max", below + (above - below) * (at - int(at)), templates.DARKEST)

    # --- change ---

    def changed(self, image: Value, strength: Value, style: Value | None = None) -> Value:
        """Return an image (3, height, width) with its face changed."""
        graph, size, half = self.graph, self.size, self.half
        whole = graph("Unsqueeze", image, [0])
        own = _with_channels(graph, whole, self.model.shape[0])
        self.features(own)
        self.fit()
        light = self.side_light()
        white = self.whites(self.luminance, self.geometry.features, light)
        ratio = self.whites(own, size, light) / self.registered.usual_whites[:, None, None]
        hue = graph("Clip", ratio / graph.mean(ratio, 1), *synthesis.HUES)
        parts = [
            self.part(name, own, light, white, hue, strength * share, style)
            for name, share in self.wanted.shares.items()
        ]
        total = graph("Sum", *(motion for motion, _, _ in parts))
        (field,) = graph.loop(
            INVERSIONS,
            [np.zeros((1, 2, *half))],
            lambda _, found: ([self.look_up(total, found, half)], []),
        )
        added = [
            self.look_up(change, self.resized(self.compose(back, field, half), half, size), size)
            for _, back, change in parts
        ]
        motion = self.resized(field, half, size)
        still = graph("Equal", graph("ReduceMax", graph("Abs", motion), axes=[1]), 0.0)
        output = graph("Sum", graph("Where", still, whole, self.warped(whole, motion)), *added)
        return graph("Squeeze", output, [0])

    def part(
        self,
        name: str,
        image: Value,
        side: Value,
        white: Value,
        hue: Value,
        amount: Value,
        style: Value | None,
    ) -> tuple[Value, Value, Value]:
        """Return the motion of an expression, the field P, and its change in the frame."""
        graph, size, half = self.graph, self.size, self.half
        look, regions = self.registered.appearances[name], self.wanted.regions
        motion = look.motion[None]
        shows = np.array([each.expression == name for each in self.search.candidates], np.float32)
        left = 1.0 - self.shown * graph("Gather", shows, self.index)
        trust = self.look_up(self.trust, motion, half) * left
        mask = self.enlarged(trust, half, size) * mask_of(self.geometry, size, regions)
        to_face = self.compose(self.field, motion, half)  # W
        framed = self.warped(image, self.resized(to_face, half, size))
        sides = self.enlarged(self.look_up(side, motion, half), half, size)
        oval = self.oval / self.oval.sum()
        seen = graph.sum(self.look_up(self.light, to_face, half) * oval, 2, 3)
        brightness = graph("Max", seen, templates.DARKEST) / look.light
        eyes = white / self.registered.eye_white * 2.0 - brightness
        bright = graph("Clip", graph("Max", brightness, eyes), templates.LIGHTS[0], 1.0)
        light = sides * graph("Clip", brightness, *templates.LIGHTS)
        spread = sides * bright * hue * look.spread - framed * look.share
        added = _regression(graph, self.model, name, framed) - framed + light * hue * look.mean
        units = np.float32(look.style - look.plain)
        if units > 0:  # see `Appearance.tint`
            usual, teeth = look.teeth
            mine = hue * usual
            found = framed + added + spread * units
            shine = graph.mean(found, 1) / graph("Max", graph.mean(mine, 1), 0.1)
            dark = graph.ramp(bright - brightness, 0.0, synthesis.DARK)
            spread += (mine * shine - found) * (teeth / units) * dark
        strong = graph.ramp(amount, synthesis.OPENING, 1.0)
        usual_style = strong * (look.style - look.other) + look.other
        chosen = usual_style
        if style is not None and look.styled:
            chosen = graph("Where", graph("IsNaN", style), usual_style, style)
        change = (added + spread * (chosen - look.plain)) * mask * amount
        if self.model.shape[0] == 3:
            grey = graph("Equal", self.coloured, 0.0)
            change = graph("Where", grey, graph.mean(change, 1), change)
        masked = trust * mask_of(self.geometry, half, regions) * amount
        back = self.inverted(to_face, half)
        moved = self.look_up((motion - chosen * look.shape) * masked, back, half)
        return moved, back, change
