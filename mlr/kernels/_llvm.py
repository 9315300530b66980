"""Vector code for the kernels: the only module that writes LLVM's intermediate code.

Only compiled kernels can call these functions. LLVM chooses the instructions: sums of two adjacent
products, for example, become one multiply-add-pairs instruction on x86. It does not find sums of
four products of bytes (`DOT`), which are requested by name on processors that have them: AVX-512
VNNI, AVX-VNNI and ARM's dot product extension.

Vectors hold the numbers of some adjacent pixels; ``+`` and ``*`` of two vectors are single
instructions. With plain kernels they are single numbers.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from mlr.kernels import jit

#: Pixels solved together: the float64 numbers of a register of 512 bits, or 256.
LANES = 1 if jit.PLAIN_KERNELS else 8 if jit.processor_has("avx512f") else 4
RUN = 1 if jit.PLAIN_KERNELS else 16  # adjacent pixels of planes that are processed together
LINE = 64  # bytes of a cache line

#: LLVM's names of instructions that multiply pairs of bytes and add every four products to a sum,
#: by the feature of the processor: with the number of sums and the type of the factors.
_DOTS = {
    "avx512vnni": ("llvm.x86.avx512.vpdpbusd.512", 16, ir.IntType(32)),
    "avxvnni": ("llvm.x86.avx512.vpdpbusd.256", 8, ir.IntType(32)),
    "dotprod": ("llvm.aarch64.neon.udot.v4i32.v16i8", 4, ir.IntType(8)),
}
DOT = next(filter(jit.processor_has, _DOTS), "")  # the one this processor has, if any
BLOCK = 4  # samples of a pixel that are adjacent in memory, as many as DOT adds up
TILE = 16 if DOT == "avx512vnni" else 8  # adjacent pixels that `multiply` processes together
#: Most rows and columns of neighbours that it processes: their sums fill 25 of 32 registers, or 9
#: of 16, or on ARM 18 of 32.
TALL, WIDE = (5, 5) if DOT == "avx512vnni" else (3, 3)
#: On x86, DOT takes one signed factor: the sample minus this.
BIAS = 128 if DOT in ("avx512vnni", "avxvnni") else 0

_AHEAD = 128  # elements of the weights that `weigh` fetches ahead
_INDEX, _INT32, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_BLOCKS = ir.VectorType(_BYTE, BLOCK * TILE)
_SUMS = ir.VectorType(_INT32, TILE)
_FLOATS = ir.VectorType(ir.FloatType(), RUN)


class _Vector(types.Type):  # type: ignore[misc]
    """Numba's type of some adjacent numbers, held in vector registers."""

    def __init__(self, scalar, count):
        super().__init__(f"Vector({scalar}, {count})")
        self.scalar, self.count = scalar, count


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, kind):
        element = ir.DoubleType() if kind.scalar == types.float64 else ir.FloatType()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _define_operator(symbol, instruction):
    """Make ``symbol`` of two vectors an instruction."""

    @type_callable(symbol)
    def type_operator(context):
        return lambda a, b: a if isinstance(a, _Vector) and a == b else None

    @lower_builtin(symbol, _Vector, _Vector)
    def lower_operator(context, builder, signature, operands):
        return getattr(builder, instruction)(*operands)


_define_operator(operator.add, "fadd")
_define_operator(operator.iadd, "fadd")
_define_operator(operator.mul, "fmul")


def _loader(count):
    @intrinsic
    def load(typing, array, index):
        """Load numbers from an index of an array, or a row of an array (m, count)."""
        kind = _Vector(array.dtype, count)

        def generate(context, builder, signature, operands):
            pointer = _vector_pointer(context, builder, signature.args, operands, kind)
            return builder.load(pointer, align=array.dtype.bitwidth // 8)

        return kind(array, _index_type(index)), generate

    return load


@intrinsic
def store(typing, array, index, vector):
    """Store numbers at the index that `load` would load them from."""

    def generate(context, builder, signature, operands):
        pointer = _vector_pointer(context, builder, signature.args, operands, vector)
        builder.store(operands[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, _index_type(index), vector), generate


def _index_type(index):
    return index if isinstance(index, types.BaseTuple) else types.intp


def _vector_pointer(context, builder, kinds, operands, vector):
    array, index = operands[:2]
    if isinstance(kinds[1], types.BaseTuple):
        pointer = _pointer(context, builder, kinds[0], array, *cgutils.unpack_tuple(builder, index))
    else:
        if kinds[0].ndim == 2:
            index = builder.mul(index, index.type(vector.count))
        data = context.make_array(kinds[0])(context, builder, array).data
        pointer = builder.gep(data, [index])
    return _as(builder, pointer, context.get_value_type(vector))


def _filler(count):
    @intrinsic
    def fill(typing, x):
        """Make a vector of copies of a number."""
        kind = _Vector(x, count)

        def generate(context, builder, signature, operands):
            return _repeated(builder, operands[0], context.get_value_type(kind))

        return kind(x), generate

    return fill


def _operation(operands, emit):
    """Describe to Numba an operation on vectors that ``emit(builder, *operands)`` writes."""
    return operands[0](*operands), lambda _, builder, __, values: emit(builder, *values)


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
    """Invert the numbers above ``floor``; the others become 0."""

    def emit(builder, a, floor):
        one, zero = (a.type([value] * LANES) for value in (1.0, 0.0))
        return builder.select(builder.fcmp_ordered(">", a, floor), builder.fdiv(one, a), zero)

    return _operation([a, floor], emit)


load, load_run = _loader(LANES), _loader(RUN)
fill, fill_run = _filler(LANES), _filler(RUN)
store_run = store

if jit.PLAIN_KERNELS:  # single numbers, without the fused rounding

    @jit.inlined
    def load(array, index):
        return array[index, 0] if array.ndim == 2 else array[index]

    @jit.inlined
    def store(array, index, a):
        if array.ndim == 2:
            array[index, 0] = a
        else:
            array[index] = a

    @jit.inlined
    def load_run(array, index):
        return array[index]

    @jit.inlined
    def store_run(array, index, a):
        array[index] = a

    @jit.inlined
    def fill(x):
        return x

    @jit.inlined
    def minus_product(c, a, b):
        return c - a * b

    @jit.inlined
    def inverse_above(a, floor):
        return 1.0 / a if a > floor else 0.0

    smaller, fill_run = min, fill


@jit.maker
def empty_lines(count):
    """Make an uninitialised array (count, LANES) whose rows do not cross cache lines.

    With rows that do, 50 unknowns take 1.5 times as long.
    """
    memory = np.empty((count + 1) * LANES)
    first = -np.intp(memory.ctypes.data) // memory.itemsize % LANES
    return memory[first : first + count * LANES].reshape(count, LANES)


@intrinsic
def address(context, array, index):
    """Return the address of an element of an array, given its index or a tuple of indices."""

    def generate(context, builder, signature, arguments):
        array, index = arguments
        indices = [index]
        if isinstance(signature.args[1], types.BaseTuple):
            indices = cgutils.unpack_tuple(builder, index)
        pointer = _pointer(context, builder, signature.args[0], array, *indices)
        return builder.ptrtoint(pointer, _INDEX)

    return types.int64(array, index), generate


@intrinsic
def fetch(context, start):
    """Prefetch the cache line of an address."""

    def generate(context, builder, signature, arguments):
        _prefetch(builder, _at(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(start), generate


@intrinsic
def multiply(context, size, rows, targets, neighbours, ahead, bias, masks):
    """Add the products of the pixels of a tile with a rectangle of neighbours to their sums.

        s[i, j, x] = sum_mn rows[i][step m + BLOCK x + n] b[step m + BLOCK (x + j) + n]
        targets[i, j][x] += masks[j, x] & (s[i, j, x] + bias totals[x + j])

    ``size`` is (rows i, at most `TALL`; columns j, at most `WIDE`; blocks m; step); there are
    `BLOCK` n, and `TILE` pixels x. ``rows`` and ``targets`` are int64 arrays of addresses,
    ``neighbours`` are the addresses (b, totals), ``masks`` is an int32 array of shape (WIDE, TILE).
    For each m a cache line is prefetched, from the address ``ahead`` on. With `DOT`, `BIAS` is
    subtracted from rows[i] before multiplying.
    """

    def generate(context, builder, signature, arguments):
        size, _, _, neighbours, ahead, bias, _ = arguments
        tall, wide, blocks, step = cgutils.unpack_tuple(builder, size)
        b, totals = cgutils.unpack_tuple(builder, neighbours)
        bias = _repeated(builder, builder.trunc(bias, _INT32), _SUMS)

        def pointer(argument, *indices):
            array, kind = arguments[argument], signature.args[argument]
            return _pointer(context, builder, kind, array, *map(_INDEX, indices))

        def emit(tall, wide):
            first = [_at(builder, builder.load(pointer(1, i))) for i in range(tall)]
            loop = step, blocks, ahead
            sums = _emit_products(builder, first, _at(builder, b), loop, wide)
            for j in range(wide):
                total = _at(builder, builder.add(totals, _INDEX(4 * j)), _SUMS)
                more = builder.mul(builder.load(total, align=4), bias)
                mask = builder.load(_as(builder, pointer(6, j, 0), _SUMS), align=4)
                for i in range(tall):
                    found = builder.and_(builder.add(sums[i, j], more), mask)
                    target = _at(builder, builder.load(pointer(2, i * WIDE + j)), _SUMS)
                    found = builder.add(builder.load(target, align=4), found)
                    builder.store(found, target, align=4)

        done = builder.append_basic_block("done")
        case = builder.add(builder.mul(tall, _INDEX(WIDE + 1)), wide)
        switch = builder.switch(case, done)
        for high in range(1, TALL + 1):
            for broad in range(1, WIDE + 1):
                with builder.goto_block(builder.append_basic_block()):
                    switch.add_case(_INDEX(high * (WIDE + 1) + broad), builder.block)
                    emit(high, broad)
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(size, rows, targets, neighbours, ahead, bias, masks), generate


@intrinsic
def add_up(context, a, step, blocks, sums):
    """Set sums[x] to the sum of the samples a[step m + BLOCK x + n]; both are addresses.

    There are ``blocks`` m, `BLOCK` n, and `TILE` pixels x.
    """

    def generate(context, builder, signature, arguments):
        a, step, blocks, sums = arguments
        loop = step, blocks, None
        found = _emit_products(builder, [None], _at(builder, a), loop, 1)
        builder.store(found[0, 0], _at(builder, sums, _SUMS), align=4)
        return context.get_dummy_value()

    return types.void(a, step, blocks, sums), generate


def _emit_products(builder, rows, b, loop, wide):
    """Write the loop over blocks of samples: return sums of the pixels of a tile by (row, column).

    Without rows, all factors are 1.
    """
    step, blocks, ahead = loop
    keys = [(i, j) for j in range(wide) for i in range(len(rows))]
    factors, add_products = (_fours, _add_fours) if DOT else (_pairs, _add_pairs)

    def body(block, carried):
        begin, *sums = carried
        if ahead is not None:
            line = builder.add(ahead, builder.mul(block, _INDEX(LINE)))
            _prefetch(builder, _at(builder, line))
        first = [row and factors(builder, builder.gep(row, [begin]), False) for row in rows]
        totals = iter(sums)
        new = []
        for j in range(wide):
            pointer = builder.gep(b, [builder.add(begin, _INDEX(BLOCK * j))])
            second = factors(builder, pointer, True)
            new += [add_products(builder, next(totals), each, second) for each in first]
        return [builder.add(begin, step), *new]

    zeros = [_INDEX(0), *(ir.Constant(_SUMS, None) for _ in keys)]
    _, *sums = _loop(builder, _INDEX(0), blocks, zeros, body)
    return dict(zip(keys, sums, strict=True))


def _fours(builder, pointer, positive):
    """Load the samples of a tile, four in an element: as they are, or minus `BIAS`."""
    samples = builder.load(_as(builder, pointer, _BLOCKS), align=1)
    if not positive:
        samples = builder.xor(samples, ir.Constant(_BLOCKS, [BIAS] * _BLOCKS.count))
    return builder.bitcast(samples, _SUMS)


def _add_fours(builder, sums, a, b):
    """Add four adjacent products to each sum: b is unsigned, a is signed if there is a `BIAS`."""
    if a is None:
        a = builder.bitcast(ir.Constant(_BLOCKS, [1] * _BLOCKS.count), _SUMS)
    name, count, factor = _DOTS[DOT]
    sum_kind = ir.VectorType(_INT32, count)
    kind = ir.VectorType(factor, 32 * count // factor.width)
    dot = ir.FunctionType(sum_kind, [sum_kind, kind, kind])
    dot = cgutils.get_or_insert_function(builder.module, dot, name)
    parts = []
    for first in range(0, TILE, count):
        own = range(first, first + count)
        total, *factors = (_choose(builder, each, each, own) for each in (sums, b, a))
        factors = [builder.bitcast(each, kind) for each in factors]
        parts.append(builder.call(dot, [total, *factors]))
    return parts[0] if len(parts) == 1 else _choose(builder, parts[0], parts[1], range(TILE))


def _pairs(builder, pointer, positive):
    """Load the samples of a tile: the even and the odd ones, as 16-bit numbers."""
    kind = ir.VectorType(ir.IntType(16), 2 * TILE)
    samples = builder.load(_as(builder, pointer, kind), align=1)
    low = builder.and_(samples, ir.Constant(kind, [255] * kind.count))
    return low, builder.lshr(samples, ir.Constant(kind, [8] * kind.count))


def _add_pairs(builder, sums, a, b):
    """Add four products to each sum, as two times two adjacent ones."""
    kind = ir.VectorType(_INT32, 2 * TILE)
    for m, other in enumerate(b):
        product = builder.zext(other, kind)
        if a is not None:
            product = builder.mul(builder.zext(a[m], kind), product)
        even, odd = (_choose(builder, product, product, range(n, 2 * TILE, 2)) for n in (0, 1))
        sums = builder.add(sums, builder.add(even, odd))
    return sums


@intrinsic(prefer_literal=True)
def interleave(context, source, stride, targets, start, channels):
    """Set targets[c][start + BLOCK x + n] = source[n stride + channels x + c], x < `RUN`.

    ``source`` is an address, ``targets`` an array of addresses, ``channels`` a literal number.
    """
    number = channels.literal_value

    def generate(context, builder, signature, arguments):
        source, stride, targets, start, _ = arguments
        kind = ir.VectorType(_BYTE, RUN * number)
        images = [builder.add(source, builder.mul(stride, _INDEX(n))) for n in range(BLOCK)]
        pixels = [builder.load(_at(builder, image, kind), align=1) for image in images]
        pair = [x + RUN * n for x in range(RUN) for n in range(2)]
        block = [2 * x + n for x in range(RUN) for n in (0, 1, 2 * RUN, 2 * RUN + 1)]
        for c in range(number):
            own = range(c, RUN * number, number)
            columns = [_choose(builder, image, image, own) for image in pixels]
            low, high = (_choose(builder, columns[n], columns[n + 1], pair) for n in (0, 2))
            begin = builder.load(_pointer(context, builder, signature.args[2], targets, _INDEX(c)))
            target = _at(builder, builder.add(begin, start), ir.VectorType(_BYTE, RUN * BLOCK))
            builder.store(_choose(builder, low, high, block), target, align=1)
        return context.get_dummy_value()

    return types.void(source, stride, targets, start, channels), generate


@intrinsic(prefer_literal=True)
def weigh(context, weights, starts, taps, source, sums, at, images):
    """Add the products of the taps first <= k < last to sums, one after the other.

        sums[n + m, c, q + j] += weights[k, p + j] source[m, i + starts[k] + j]

    ``taps`` is (first, last), ``at`` is (p, i, n, c, q); there are `RUN` pixels j, and ``images``
    images m, a literal number. If ``first`` is 0, the sums start from the bias, weights[K, p + j]
    with K = len(starts), instead of their previous values.
    """
    count = images.literal_value

    def generate(context, builder, signature, arguments):
        starts, taps, at = arguments[1], arguments[2], arguments[5]
        kinds = signature.args
        first, last = cgutils.unpack_tuple(builder, taps)
        p, i, n, c, q = cgutils.unpack_tuple(builder, at)

        def pointer(argument, *indices):
            return _pointer(context, builder, kinds[argument], arguments[argument], *indices)

        def run(first):
            return _as(builder, first, _FLOATS)

        def body(k, totals):
            first_weight = pointer(0, k, p)
            _prefetch(builder, builder.gep(first_weight, [_INDEX(_AHEAD)]))
            weight = builder.load(run(first_weight), align=4)
            start = builder.load(pointer(1, k))
            values = [builder.load(run(builder.gep(row, [start])), align=4) for row in rows]
            return [
                builder.fadd(total, builder.fmul(weight, value))
                for total, value in zip(totals, values, strict=True)
            ]

        rows = [pointer(3, _INDEX(m), i) for m in range(count)]
        results = [run(pointer(4, builder.add(n, _INDEX(m)), c, q)) for m in range(count)]
        (length,) = cgutils.unpack_tuple(
            builder, context.make_array(kinds[1])(context, builder, starts).shape, 1
        )
        bias = run(pointer(0, length, p))
        begins = builder.icmp_signed("==", first, _INDEX(0))
        before = [builder.load(builder.select(begins, bias, result), align=4) for result in results]
        totals = _loop(builder, first, last, before, body)
        for total, result in zip(totals, results, strict=True):
            builder.store(total, result, align=4)
        return context.get_dummy_value()

    return types.void(weights, starts, taps, source, sums, at, images), generate


def _loop(builder, first, last, values, body):
    """Write ``for k in range(first, last): values = body(k, values)`` with at least one step."""
    entry, block = builder.block, builder.append_basic_block("loop")
    builder.branch(block)
    builder.position_at_end(block)
    k, before = builder.phi(_INDEX), [builder.phi(value.type) for value in values]
    after = body(k, before)
    following = builder.add(k, _INDEX(1))
    for phi, start, end in zip([k, *before], [first, *values], [following, *after], strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(end, block)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", following, last), block, done)
    builder.position_at_end(done)
    return after


def _repeated(builder, value, kind):
    """Return a vector of copies of a number."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _INT32(0))
    return _choose(builder, one, one, [0] * kind.count)


def _choose(builder, u, v, elements):
    mask = ir.Constant(ir.VectorType(_INT32, len(elements)), list(elements))
    return builder.shuffle_vector(u, v, mask)


def _prefetch(builder, pointer):
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT32, _INT32, _INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, _INT32(0), _INT32(3), _INT32(1)])  # to read, soon, data


def _pointer(context, builder, kind, array, *indices):
    array = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, array, indices)


def _as(builder, pointer, kind):
    return builder.bitcast(pointer, kind.as_pointer())


def _at(builder, start, kind=_BYTE):
    """Return a pointer to an address."""
    return builder.inttoptr(start, kind.as_pointer())
