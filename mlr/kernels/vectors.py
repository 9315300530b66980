"""Vector code for the kernels.

Each function here can be called in compiled kernels only. It writes LLVM's intermediate code with
vectors of fixed length, from which LLVM makes the best of the instructions that there are: sums of
two adjacent products, for example, become one multiply-add-pairs instruction on x86. One kind of
instruction LLVM does not find by itself and is named here, for processors that have it: sums of
four products of bytes (`DOT`).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

#: Whether the processor that kernels are compiled for multiplies 64 pairs of bytes and adds each
#: four products to a sum, in one instruction. Elsewhere it takes one to widen 16 bytes, and one for
#: 16 products.
DOT = "+avx512vnni" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
STEP = 64 if DOT else 16  # samples that `multiply` loads together
HALF = 128  # DOT takes bytes with a sign as second factors: those of pixels less so much
WIDEST = 5  # adjacent neighbours that `multiply` can treat together
_INDEX, _BIT32 = ir.IntType(64), ir.IntType(32)
_BYTES, _PRODUCTS = ir.VectorType(ir.IntType(8), 16), ir.VectorType(_BIT32, 16)
_LANES = 16 if DOT else 8
_SUMS, _SAMPLES = ir.VectorType(_BIT32, _LANES), ir.VectorType(ir.IntType(8), STEP)
LINE = 64  # bytes of a line of the cache
WEIGHED = 16  # adjacent pixels that `weigh` treats together
AHEAD = 128  # elements of the weights that are fetched ahead
_FLOATS = ir.VectorType(ir.FloatType(), WEIGHED)


def at_once(length):
    """Return how many pixels `multiply` treats with a run of neighbours.

    Their sums, 12 or, where there are more registers, 20, stay in registers.
    """
    return 4 if length <= 3 or DOT else 2


@intrinsic
def fetch(context, array, index):
    """Ask for the cache line of an element of an array, given the tuple of its indices."""

    def generate(context, builder, signature, arguments):
        array, index = arguments[0], cgutils.unpack_tuple(builder, arguments[1])
        _prefetch(builder, _pointer(context, builder, signature.args[0], array, *index))
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def multiply(context, a, i, b, j, stride, count, length, lifts, sums, k, x):
    """Set sums[k + d, x + p] to the sum over n of a[i + p * stride + n] b[j + (p + d) stride + n].

    There are count samples n, length neighbours d and ``at_once(length)`` pixels p. Where `DOT`,
    bytes up to `STEP` are loaded, and lifts[x + p] must be `HALF` times the sum of pixel p.
    """

    def generate(context, builder, signature, arguments):
        a, i, b, j, stride, count, length, lifts, sums, k, x = arguments
        first = _pointer(context, builder, signature.args[0], a, i)
        second = _pointer(context, builder, signature.args[2], b, j)
        lift = _pointer(context, builder, signature.args[7], lifts, x)
        for fixed in range(1, WIDEST + 1):
            with builder.if_then(builder.icmp_signed("==", length, _INDEX(fixed))):
                totals = _emit_loop(builder, first, second, stride, count, fixed)
                for d, total in enumerate(totals):
                    if DOT:
                        more = builder.load(_as(builder, lift, total.type), align=4)
                        total = builder.add(total, more)
                    row = builder.add(k, _INDEX(d))
                    place = _pointer(context, builder, signature.args[8], sums, row, x)
                    builder.store(total, _as(builder, place, total.type), align=4)
        return context.get_dummy_value()

    return types.void(a, i, b, j, stride, count, length, lifts, sums, k, x), generate


@intrinsic
def add_up(context, a, i, stride, count, factor, sums, x):
    """Set sums[x + p] to factor times the sum over n of a[i + p * stride + n], for 4 pixels p."""

    def generate(context, builder, signature, arguments):
        a, i, stride, count, factor, sums, x = arguments
        first = _pointer(context, builder, signature.args[0], a, i)
        (total,) = _emit_loop(builder, first, None, stride, count, 1)
        factor = builder.trunc(factor, _BIT32)
        factors = ir.Constant(total.type, ir.Undefined)
        for p in range(4):
            factors = builder.insert_element(factors, factor, _BIT32(p))
        place = _pointer(context, builder, signature.args[5], sums, x)
        builder.store(builder.mul(total, factors), _as(builder, place, total.type), align=4)
        return context.get_dummy_value()

    return types.void(a, i, stride, count, factor, sums, x), generate


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
    """Write the loop over the samples; return for each neighbour a vector of sums for pixels.

    Without b, all factors of a are 1.
    """
    pixels = at_once(length)
    before, loop = builder.block, builder.append_basic_block("samples")
    builder.branch(loop)
    builder.position_at_end(loop)
    n = builder.phi(_INDEX)
    old = [builder.phi(_SUMS) for _ in range(pixels * length)]
    new = list(old)
    first, second, add_products = _first_of_four, _second_of_four, _add_fours
    if not DOT:
        first, second, add_products = _widened, _widened, _add_pairs

    def place(pointer, pixel, n):
        return builder.gep(pointer, [builder.add(builder.mul(stride, _INDEX(pixel)), n)])

    def load(pointer, pixel):
        return builder.load(_as(builder, place(pointer, pixel, n), _SAMPLES), align=1)

    left = builder.sub(count, n)
    factors = [first(builder, load(a, p), left) for p in range(pixels)]
    if b is None:
        ones = second(builder, ir.Constant(_SAMPLES, [1 + HALF * DOT] * STEP), left)
    else:
        for ahead in range(pixels * STEP // LINE):  # what the next pixels need
            line = builder.add(builder.mul(n, _INDEX(pixels)), _INDEX(ahead * LINE))
            _prefetch(builder, place(a, pixels, line))
            _prefetch(builder, place(b, pixels + length - 1, line))
    for j in range(pixels + length - 1):
        neighbour = ones if b is None else second(builder, load(b, j), left)
        for p in range(max(0, j - length + 1), min(pixels, j + 1)):
            k = (j - p) * pixels + p
            new[k] = add_products(builder, old[k], factors[p], neighbour)
    after = builder.add(n, _INDEX(STEP))
    for variable, following in zip([n, *old], [after, *new], strict=True):
        variable.add_incoming(ir.Constant(variable.type, None), before)
        variable.add_incoming(following, loop)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
    builder.position_at_end(done)
    return _emit_totals(builder, new, pixels)


def _widened(builder, samples, left):
    """Return bytes as numbers that can be multiplied."""
    return builder.zext(samples, _PRODUCTS)


def _add_pairs(builder, sums, a, b):
    """Add two adjacent products to each sum."""
    product = builder.mul(a, b)
    return builder.add(sums, _fold(builder, product, product, range(0, 16, 2), range(1, 16, 2)))


def _first_of_four(builder, samples, left):
    """Return bytes as DOT takes them; those that are not left are no samples, but 0."""
    last = builder.select(
        builder.icmp_signed("<", left, _INDEX(STEP)), builder.sub(left, _INDEX(1)), _INDEX(STEP - 1)
    )
    lasts = ir.Constant(_SAMPLES, ir.Undefined)
    lasts = builder.insert_element(lasts, builder.trunc(last, _SAMPLES.element), _BIT32(0))
    lasts = builder.shuffle_vector(lasts, lasts, ir.Constant(ir.VectorType(_BIT32, STEP), None))
    places = ir.Constant(_SAMPLES, list(range(STEP)))
    kept = builder.icmp_unsigned("<=", places, lasts)
    return builder.bitcast(builder.select(kept, samples, ir.Constant(_SAMPLES, None)), _SUMS)


def _second_of_four(builder, samples, left):
    """Return bytes less `HALF`, as DOT takes them; their first factor may be 0."""
    return builder.bitcast(builder.xor(samples, ir.Constant(_SAMPLES, [HALF] * STEP)), _SUMS)


def _add_fours(builder, sums, a, b):
    """Add four adjacent products of bytes to each sum."""
    kind = ir.FunctionType(_SUMS, [_SUMS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [sums, a, b])


def _emit_totals(builder, sums, pixels):
    """Add up the elements of each vector, as many vectors at a time; return `pixels` a vector."""
    totals = []
    even = [e + side for q in range(0, _LANES, 4) for side in (0, _LANES) for e in (q, q + 2)]
    low = [e + side for side in (0, _LANES) for q in range(0, _LANES, 8) for e in range(q, q + 4)]
    for k in range(0, len(sums), _LANES):
        some = (sums[k : k + _LANES] + [ir.Constant(_SUMS, None)] * _LANES)[:_LANES]
        while len(some) > _LANES // 4:  # of four elements the even ones and the odd ones
            some = [
                _fold(builder, some[i], some[i + 1], even, [e + 1 for e in even])
                for i in range(0, len(some), 2)
            ]
        while len(some) > 1:  # of eight elements the first four and the last
            some = [
                _fold(builder, some[i], some[i + 1], low, [e + 4 for e in low])
                for i in range(0, len(some), 2)
            ]
        for i in range(0, min(_LANES, len(sums) - k), pixels):
            totals.append(_choose(builder, some[0], some[0], range(i, i + pixels)))
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
