"""Numbers of a few adjacent pixels at once: one lane of a vector register for each.

Inside compiled kernels a lane vector is one value, and each operation here one vector instruction.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from mlr.kernels import jit

#: Pixels solved together: the float64 numbers of a register of 512 bits, or 256.
LANES = 8 if jit.processor_has("avx512f") else 4


class _Vector(types.Type):  # type: ignore[misc]
    """Numba's type of the numbers of `LANES` pixels, held in a vector register."""


_VECTOR = _Vector("Vector")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(ir.DoubleType(), LANES))


def _pointer(context, builder, kind, array, index):
    """Point to row `index` of an array (m, LANES), or to element `index` of a 1-d array."""
    if kind.ndim == 2:
        index = builder.mul(index, index.type(LANES))
    data = context.make_array(kind)(context, builder, array).data
    vector = context.get_value_type(_VECTOR)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@jit.maker
def empty_lines(count):
    """Make an array (count, LANES) with anything in it, no row of which crosses a cache line.

    With rows that do, 50 unknowns take 1.5 times as long.
    """
    memory = np.empty((count + 1) * LANES)
    first = -np.intp(memory.ctypes.data) // memory.itemsize % LANES
    return memory[first : first + count * LANES].reshape(count, LANES)


@intrinsic
def load(typing, array, index):
    """Load the lanes from row `index` of an array (m, LANES), or element `index` of a 1-d one."""

    def generate(context, builder, signature, operands):
        return builder.load(_pointer(context, builder, array, *operands), align=8)

    return _VECTOR(array, types.intp), generate


@intrinsic
def store(typing, array, index, a):
    """Store the lanes where `load` loads them."""

    def generate(context, builder, signature, operands):
        builder.store(operands[2], _pointer(context, builder, array, *operands[:2]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, a), generate


def _operation(operands, emit):
    """Describe to Numba an operation that ``emit(builder, *operands)`` turns into instructions."""
    return _VECTOR(*operands), lambda context, builder, signature, values: emit(builder, *values)


@intrinsic
def fill(typing, x):
    """Set all lanes to a number."""

    def emit(builder, x):
        vector = ir.VectorType(x.type, LANES)(ir.Undefined)
        for i in range(LANES):
            vector = builder.insert_element(vector, x, ir.IntType(32)(i))
        return vector

    return _operation([types.float64], emit)


@intrinsic
def plus(typing, a, b):
    """Add."""
    return _operation([a, b], lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def times(typing, a, b):
    """Multiply."""
    return _operation([a, b], lambda builder, a, b: builder.fmul(a, b))


@intrinsic
def minus_product(typing, c, a, b):
    """Subtract a product, c - a b, with one rounding where the processor can."""

    def emit(builder, c, a, b):
        fused = ("contract",)
        return builder.fsub(c, builder.fmul(a, b, flags=fused), flags=fused)

    return _operation([c, a, b], emit)


@intrinsic
def smaller(typing, a, b):
    """Take the smaller of two numbers."""

    def emit(builder, a, b):
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    return _operation([a, b], emit)


@intrinsic
def inverse_above(typing, a, floor):
    """Invert the numbers above `floor`; 0 elsewhere."""

    def emit(builder, a, floor):
        one, zero = (a.type([value] * LANES) for value in (1.0, 0.0))
        return builder.select(builder.fcmp_ordered(">", a, floor), builder.fdiv(one, a), zero)

    return _operation([a, floor], emit)


if jit.PLAIN_KERNELS:  # the same operations on arrays; without the fused rounding

    @jit.inlined
    def load(array, index):
        a = np.empty(LANES)
        for i in range(LANES):
            a[i] = array[index, i] if array.ndim == 2 else array[index + i]
        return a

    @jit.inlined
    def store(array, index, a):
        for i in range(LANES):
            if array.ndim == 2:
                array[index, i] = a[i]
            else:
                array[index + i] = a[i]

    @jit.inlined
    def fill(x):
        return np.full(LANES, x)

    @jit.inlined
    def plus(a, b):
        return a + b

    @jit.inlined
    def times(a, b):
        return a * b

    @jit.inlined
    def minus_product(c, a, b):
        return c - a * b

    @jit.inlined
    def smaller(a, b):
        return np.minimum(a, b)

    @jit.inlined
    def inverse_above(a, floor):
        return np.where(a > floor, 1.0 / np.where(a > floor, a, 1.0), 0.0)
