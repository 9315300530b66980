"""Vector code for the kernels, for no particular processor.

Each function here can be called in compiled kernels only. It writes LLVM's intermediate code with
vectors of fixed length, from which LLVM makes the best of the instructions that there are: sums of
two adjacent products, for example, become one multiply-add-pairs instruction on x86.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDEST = 5  # adjacent neighbours that `multiply` can treat together
_INDEX, _BIT32 = ir.IntType(64), ir.IntType(32)
_BYTES, _PRODUCTS = ir.VectorType(ir.IntType(8), 16), ir.VectorType(_BIT32, 16)
WEIGHED = 16  # adjacent pixels that `weigh` treats together
AHEAD = 128  # elements of the weights that are fetched ahead
_FLOATS = ir.VectorType(ir.FloatType(), WEIGHED)
_SUMS = ir.VectorType(_BIT32, 8)


def at_once(length):
    """Return how many pixels `multiply` treats with a run of neighbours: 12 sums at most."""
    return 4 if length <= 3 else 2


@intrinsic
def fetch(context, planes, c, l, y, x):  # noqa: E741
    """Ask for the cache line of planes[c, l, y, x]: adjacent planes are far apart in memory."""

    def generate(context, builder, signature, arguments):
        _prefetch(builder, _pointer(context, builder, signature.args[0], *arguments))
        return context.get_dummy_value()

    return types.void(planes, c, l, y, x), generate


@intrinsic
def multiply(context, a, i, b, j, stride, count, length, sums, k, x):
    """Set sums[k + d, x + p] to the sum over n of a[i + p * stride + n] b[j + (p + d) stride + n].

    There are count samples n, length neighbours d and ``at_once(length)`` pixels p.
    """

    def generate(context, builder, signature, arguments):
        a, i, b, j, stride, count, length, sums, k, x = arguments
        first = _pointer(context, builder, signature.args[0], a, i)
        second = _pointer(context, builder, signature.args[2], b, j)
        for fixed in range(1, WIDEST + 1):
            with builder.if_then(builder.icmp_signed("==", length, _INDEX(fixed))):
                totals = _emit_loop(builder, first, second, stride, count, fixed)
                for d, total in enumerate(totals):
                    row = builder.add(k, _INDEX(d))
                    place = _pointer(context, builder, signature.args[7], sums, row, x)
                    builder.store(total, _as(builder, place, total.type), align=4)
        return context.get_dummy_value()

    return types.void(a, i, b, j, stride, count, length, sums, k, x), generate


@intrinsic
def transpose(context, source, i, stride, samples, places, q, n):
    """Set samples[places[q + x] + n + m] = source[i + m * stride + x] for m, x = 0 ... 15."""

    def generate(context, builder, signature, arguments):
        source, i, stride, samples, places, q, n = arguments
        rows = []
        for m in range(16):
            position = builder.add(i, builder.mul(stride, _INDEX(m)))
            place = _pointer(context, builder, signature.args[0], source, position)
            rows.append(builder.load(_as(builder, place, _BYTES), align=1))
        low = [m // 2 + m % 2 * 16 for m in range(16)]
        for _ in range(4):  # interleave rows m and m + 8
            rows = [
                _choose(builder, rows[m], rows[m + 8], [element + half for element in low])
                for m in range(8)
                for half in (0, 8)
            ]
        for x, row in enumerate(rows):
            place = _pointer(context, builder, signature.args[4], places, builder.add(q, _INDEX(x)))
            position = builder.add(builder.load(place), n)
            place = _pointer(context, builder, signature.args[3], samples, position)
            builder.store(row, _as(builder, place, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(source, i, stride, samples, places, q, n), generate


@intrinsic(prefer_literal=True)
def weigh(context, weights, p, first, last, starts, source, i, sums, n, c, q, images):
    """Add the products of the taps first <= k < last to sums, one after the other.

        sums[n + m, c, q + j] += weights[k, p + j] source[m, i + starts[k] + j]

    There are `WEIGHED` pixels j, and ``images`` images m, a literal number. Where ``first`` is 0,
    the sums begin with the bias, weights[K, p + j], whatever they were before; K = len(starts).
    """
    count = images.literal_value

    def generate(context, builder, signature, arguments):
        weights, p, first, last, starts, source, i, sums, n, c, q, _ = arguments
        kinds = signature.args

        def place(kind, array, *indices):
            return _as(builder, _pointer(context, builder, kind, array, *indices), _FLOATS)

        pixels = [_pointer(context, builder, kinds[5], source, _INDEX(m), i) for m in range(count)]
        images = [builder.add(n, _INDEX(m)) for m in range(count)]
        results = [place(kinds[7], sums, image, c, q) for image in images]
        taps = cgutils.unpack_tuple(
            builder, context.make_array(kinds[4])(context, builder, starts).shape, 1
        )[0]
        bias, begins = (
            place(kinds[0], weights, taps, p),
            builder.icmp_signed("==", first, _INDEX(0)),
        )
        before = [builder.load(builder.select(begins, bias, result), align=4) for result in results]
        entry, loop = builder.block, builder.append_basic_block("taps")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        totals = [builder.phi(_FLOATS) for _ in range(count)]
        address = _pointer(context, builder, kinds[0], weights, k, p)
        _prefetch(builder, builder.gep(address, [_INDEX(AHEAD)]))
        weight = builder.load(_as(builder, address, _FLOATS), align=4)
        start = builder.load(_pointer(context, builder, kinds[4], starts, k))
        for m, total in enumerate(totals):
            pixel = builder.load(_as(builder, builder.gep(pixels[m], [start]), _FLOATS), align=4)
            totals[m] = builder.fadd(total, builder.fmul(weight, pixel))
            total.add_incoming(before[m], entry)
            total.add_incoming(totals[m], loop)
        after = builder.add(k, _INDEX(1))
        k.add_incoming(first, entry)
        k.add_incoming(after, loop)
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", after, last), loop, done)
        builder.position_at_end(done)
        for total, result in zip(totals, results, strict=True):
            builder.store(total, result, align=4)
        return context.get_dummy_value()

    return types.void(weights, p, first, last, starts, source, i, sums, n, c, q, images), generate


@intrinsic
def interpolate(context, weights, p, source, n, i, pitch):
    """Return (s_0 + s_1) + (s_2 + s_3), s_j = sum_k weights[p, 4 k + j] source[n, i + k pitch + j].

    There are four k, added one after the other.
    """

    def generate(context, builder, signature, arguments):
        weights, p, source, n, i, pitch = arguments
        kinds, four = signature.args, ir.VectorType(ir.FloatType(), 4)
        sums = None
        for k in range(4):
            weight = _pointer(context, builder, kinds[0], weights, p, _INDEX(4 * k))
            place = builder.add(i, builder.mul(pitch, _INDEX(k)))
            pixel = _pointer(context, builder, kinds[2], source, n, place)
            factors = (builder.load(_as(builder, a, four), align=4) for a in (weight, pixel))
            product = builder.fmul(*factors)
            sums = product if sums is None else builder.fadd(sums, product)
        s = [builder.extract_element(sums, _BIT32(j)) for j in range(4)]
        return builder.fadd(builder.fadd(s[0], s[1]), builder.fadd(s[2], s[3]))

    return types.float32(weights, p, source, n, i, pitch), generate


def _emit_loop(builder, a, b, stride, count, length):
    """Write the loop over the samples; return for each neighbour a vector of sums for pixels."""
    pixels = at_once(length)
    before, loop = builder.block, builder.append_basic_block("samples")
    builder.branch(loop)
    builder.position_at_end(loop)
    n = builder.phi(_INDEX)
    old = [builder.phi(_SUMS) for _ in range(pixels * length)]
    new = list(old)

    def place(pointer, pixel, n):
        return builder.gep(pointer, [builder.add(builder.mul(stride, _INDEX(pixel)), n)])

    def load(pointer, pixel):
        address = _as(builder, place(pointer, pixel, n), _BYTES)
        return builder.zext(builder.load(address, align=1), _PRODUCTS)

    for pointer, ahead in ((a, pixels), (b, pixels + length - 1)):  # what the next pixels need
        _prefetch(builder, place(pointer, ahead, builder.mul(n, _INDEX(pixels))))
    factors = [load(a, p) for p in range(pixels)]
    for j in range(pixels + length - 1):
        neighbour = load(b, j)
        for p in range(max(0, j - length + 1), min(pixels, j + 1)):
            k = (j - p) * pixels + p
            product = builder.mul(factors[p], neighbour)
            pairs = _fold(builder, product, product, range(0, 16, 2), range(1, 16, 2))
            new[k] = builder.add(old[k], pairs)
    after = builder.add(n, _INDEX(16))
    for variable, following in zip([n, *old], [after, *new], strict=True):
        variable.add_incoming(ir.Constant(variable.type, None), before)
        variable.add_incoming(following, loop)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
    builder.position_at_end(done)
    return _emit_totals(builder, new, pixels)


def _emit_totals(builder, sums, pixels):
    """Add up the elements of each vector, eight vectors at a time; return `pixels` a vector."""
    totals = []
    for k in range(0, len(sums), 8):
        eight = (sums[k : k + 8] + [ir.Constant(_SUMS, None)] * 8)[:8]
        while len(eight) > 2:
            even, odd = (0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)
            halves = range(0, len(eight), 2)
            eight = [_fold(builder, eight[i], eight[i + 1], even, odd) for i in halves]
        eight = _fold(
            builder, eight[0], eight[1], (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
        )
        for i in range(0, min(8, len(sums) - k), pixels):
            totals.append(_choose(builder, eight, eight, range(i, i + pixels)))
    return totals


def _fold(builder, u, v, some, others):
    """Add some elements of two vectors to others."""
    return builder.add(_choose(builder, u, v, some), _choose(builder, u, v, others))


def _choose(builder, u, v, elements):
    mask = ir.Constant(ir.VectorType(_BIT32, len(elements)), list(elements))
    return builder.shuffle_vector(u, v, mask)


def _prefetch(builder, pointer):
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _BIT32, _BIT32, _BIT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, _BIT32(0), _BIT32(3), _BIT32(1)])  # to read, soon, data


def _pointer(context, builder, kind, array, *indices):
    array = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, array, indices)


def _as(builder, pointer, kind):
    return builder.bitcast(pointer, kind.as_pointer())
