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
#: four products to a sum, in one instruction.
DOT = "+avx512vnni" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
#: Samples of a pixel that lie side by side, so that DOT takes those of two pixels. With four, three
#: quarters of the vectors would lie in two lines of the cache each; with one, there would be twice
#: as many sums to add up at the end.
BLOCK = 32 if DOT else 16
TOGETHER = 16  # images that `transpose` treats together
WIDEST = 5  # adjacent neighbours that `multiply` can treat together
LINE = 64  # bytes of a line of the cache
WEIGHED = 16  # adjacent pixels that `weigh` treats together
AHEAD = 128  # elements of the weights that are fetched ahead
_HALF = 128  # DOT takes one of the factors with a sign: the sample less so much
_INDEX, _BIT32 = ir.IntType(64), ir.IntType(32)
_BYTES, _PRODUCTS = ir.VectorType(ir.IntType(8), 16), ir.VectorType(_BIT32, 16)
_FLOATS = ir.VectorType(ir.FloatType(), WEIGHED)
_SUMS = ir.VectorType(_BIT32, 16 if DOT else 8)
_TWO_BLOCKS = ir.VectorType(ir.IntType(8), 2 * BLOCK)


def at_once(length):
    """Return how many pixels `multiply` treats with a run of neighbours.

    Their sums take up 12 of 16 registers, or 20 of 32.
    """
    return 8 if DOT else 4 if length <= 3 else 2


@intrinsic
def fetch(context, array, index):
    """Ask for the cache line of an element of an array, given the tuple of its indices."""

    def generate(context, builder, signature, arguments):
        array, index = arguments[0], cgutils.unpack_tuple(builder, arguments[1])
        _prefetch(builder, _pointer(context, builder, signature.args[0], array, *index))
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def multiply(context, a, i, b, j, pitch, blocks, length, totals, t, sums, k, x):
    """Set sums[k + d, x + p] to the products of pixel p of a with pixel p + d of b.

        sum over samples of a[i + BLOCK p + n + m pitch] b[j + BLOCK (p + d) + n + m pitch]

    There are ``blocks`` m, `BLOCK` n, ``length`` neighbours d and ``at_once(length)`` pixels p.
    Where `DOT`, totals[t + p] must be the sum of the samples of pixel p of b, and one more pixel
    is loaded.
    """

    def generate(context, builder, signature, arguments):
        a, i, b, j, pitch, blocks, length, totals, t, sums, k, x = arguments
        first = _pointer(context, builder, signature.args[0], a, i)
        second = _pointer(context, builder, signature.args[2], b, j)
        total = _pointer(context, builder, signature.args[7], totals, t)
        for fixed in range(1, WIDEST + 1):
            with builder.if_then(builder.icmp_signed("==", length, _INDEX(fixed))):
                for (d, p), products in _emit_products(
                    builder, first, second, pitch, blocks, fixed
                ).items():
                    if DOT:
                        less = builder.gep(total, [_INDEX(d + p)])
                        less = builder.load(_as(builder, less, products.type), align=4)
                        half = ir.Constant(products.type, [_HALF] * products.type.count)
                        products = builder.add(products, builder.mul(less, half))
                    row, column = (builder.add(u, _INDEX(v)) for u, v in ((k, d), (x, p)))
                    place = _pointer(context, builder, signature.args[9], sums, row, column)
                    builder.store(products, _as(builder, place, products.type), align=4)
        return context.get_dummy_value()

    return types.void(a, i, b, j, pitch, blocks, length, totals, t, sums, k, x), generate


@intrinsic
def add_up(context, a, i, pitch, blocks, sums, x):
    """Set sums[x + p] to the sum of the samples a[i + BLOCK p + n + m pitch] of two pixels p."""

    def generate(context, builder, signature, arguments):
        a, i, pitch, blocks, sums, x = arguments
        first = _pointer(context, builder, signature.args[0], a, i)
        total = _emit_products(builder, first, None, pitch, blocks, 1)[0, 0]
        place = _pointer(context, builder, signature.args[4], sums, x)
        builder.store(total, _as(builder, place, total.type), align=4)
        return context.get_dummy_value()

    return types.void(a, i, pitch, blocks, sums, x), generate


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


def _emit_products(builder, a, b, pitch, blocks, length):
    """Write the loop over blocks of samples.

    Returns vectors of sums for adjacent pixels, by neighbour and first pixel. Without b, all
    factors of a are 1.
    """
    pixels = 2 if b is None else at_once(length)
    before, loop = builder.block, builder.append_basic_block("blocks")
    builder.branch(loop)
    builder.position_at_end(loop)
    block, begin = builder.phi(_INDEX), builder.phi(_INDEX)
    factors, add_products, emit_totals, group = (
        (_fours, _add_fours, _emit_totals_of_fours, 2)
        if DOT
        else (_pairs, _add_pairs, _emit_totals_of_pairs, 1)
    )
    old = {(d, p): builder.phi(_SUMS) for d in range(length) for p in range(0, pixels, group)}
    new = {}

    def place(pointer, byte):
        return builder.gep(pointer, [builder.add(begin, _INDEX(byte))])

    if b is not None:  # what the next pixels need
        for pointer, ahead in ((a, pixels), (b, pixels + length - 1)):
            for line in range(0, pixels * BLOCK, LINE):
                _prefetch(builder, place(pointer, ahead * BLOCK + line))
    first = {p: factors(builder, place(a, p * BLOCK), b is None) for p in range(0, pixels, group)}
    second = {}
    for (d, p), sums in old.items():
        if b is not None and d + p not in second:
            second[d + p] = factors(builder, place(b, (d + p) * BLOCK), True)
        new[d, p] = add_products(builder, sums, first[p], second.get(d + p))
    after = builder.add(block, _INDEX(1))
    variables = [block, begin, *old.values()]
    following = [after, builder.add(begin, pitch), *new.values()]
    for variable, value in zip(variables, following, strict=True):
        variable.add_incoming(ir.Constant(variable.type, None), before)
        variable.add_incoming(value, loop)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, blocks), loop, done)
    builder.position_at_end(done)
    return emit_totals(builder, new, pixels)


def _pairs(builder, pointer, positive):
    """Load the 16 samples of a pixel as numbers that can be multiplied."""
    return builder.zext(builder.load(_as(builder, pointer, _BYTES), align=1), _PRODUCTS)


def _add_pairs(builder, sums, a, b):
    """Add two adjacent products to each of eight sums."""
    product = a if b is None else builder.mul(a, b)
    return builder.add(sums, _fold(builder, product, product, range(0, 16, 2), range(1, 16, 2)))


def _fours(builder, pointer, positive):
    """Load a block of samples of each of two pixels: as they are, or less `_HALF`."""
    samples = builder.load(_as(builder, pointer, _TWO_BLOCKS), align=1)
    if not positive:
        samples = builder.xor(samples, ir.Constant(_TWO_BLOCKS, [_HALF] * 2 * BLOCK))
    return builder.bitcast(samples, _SUMS)


def _add_fours(builder, sums, a, b):
    """Add four adjacent products to each of 16 sums: b has no sign, a has one."""
    if b is None:
        a, b = builder.bitcast(ir.Constant(_TWO_BLOCKS, [1] * 2 * BLOCK), _SUMS), a
    kind = ir.FunctionType(_SUMS, [_SUMS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [sums, b, a])


def _emit_totals_of_fours(builder, sums, pixels):
    """Add up the eight sums of each pixel, for eight vectors at a time."""
    totals, keys, each = {}, list(sums), pixels // 2
    even = [q + e + side for q in range(0, 16, 4) for side in (0, 16) for e in (0, 2)]
    first = [q + e + side for side in (0, 16) for q in (0, 8) for e in range(4)]
    for k in range(0, len(keys), 8):
        eight = [sums[key] for key in keys[k : k + 8]]
        eight += [ir.Constant(_SUMS, None)] * (8 - len(eight))
        for some, step in ((even, 1), (even, 1), (first, 4)):
            others = [element + step for element in some]
            eight = [
                _fold(builder, u, v, some, others)
                for u, v in zip(eight[::2], eight[1::2], strict=True)
            ]
        for i in range(
            0, min(8, len(keys) - k), each
        ):  # vector i + j has two pixels of keys[k + i]
            order = [8 * (n // 4) + n % 4 + 4 * p for n in range(i, i + each) for p in (0, 1)]
            totals[keys[k + i]] = _choose(builder, eight[0], eight[0], order)
    return totals


def _emit_totals_of_pairs(builder, sums, pixels):
    """Add up the eight sums of each pixel, for eight vectors at a time."""
    totals, keys = {}, list(sums)
    for k in range(0, len(keys), 8):
        eight = [sums[key] for key in keys[k : k + 8]]
        eight += [ir.Constant(_SUMS, None)] * (8 - len(eight))
        while len(eight) > 2:
            even, odd = (0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)
            halves = range(0, len(eight), 2)
            eight = [_fold(builder, eight[i], eight[i + 1], even, odd) for i in halves]
        eight = _fold(
            builder, eight[0], eight[1], (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
        )
        for i in range(0, min(8, len(keys) - k), pixels):
            totals[keys[k + i]] = _choose(builder, eight, eight, range(i, i + pixels))
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
