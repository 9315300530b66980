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
from numba.extending import intrinsic

from mlr.kernels import jit

#: Whether the processor that kernels are compiled for multiplies 64 pairs of bytes and adds each
#: four products to a sum, in one instruction.
DOT = jit.processor_has("avx512vnni")
BLOCK = 4  # samples of a pixel that lie side by side, as many as DOT adds up
TILE = 16 if DOT else 8  # adjacent pixels that `multiply` treats together
#: Rows and columns of neighbours that it treats at most: their sums take up 25 of 32 registers, or
#: 9 of 16.
TALL, WIDE = (5, 5) if DOT else (3, 3)
BIAS = 128 if DOT else 0  # DOT takes one of the factors with a sign: the sample less so much
LINE = 64  # bytes of a line of the cache
WEIGHED = 16  # adjacent pixels that `weigh` treats together
BLURRED = 2 * WEIGHED  # those that `blur_tile` treats together
AHEAD = 128  # elements of the weights that are fetched ahead
_INDEX, _BIT32 = ir.IntType(64), ir.IntType(32)
_BYTE = ir.IntType(8)
_BLOCKS = ir.VectorType(_BYTE, BLOCK * TILE)  # of a tile
_SUMS = ir.VectorType(_BIT32, TILE)
_FLOATS = ir.VectorType(ir.FloatType(), WEIGHED)


@intrinsic
def address(context, array, index):
    """Return the address of an element of an array, given its index or a tuple of indices."""

    def generate(context, builder, signature, arguments):
        array, index = arguments
        indices = [index]
        if isinstance(signature.args[1], types.BaseTuple):
            indices = cgutils.unpack_tuple(builder, index)
        place = _pointer(context, builder, signature.args[0], array, *indices)
        return builder.ptrtoint(place, _INDEX)

    return types.int64(array, index), generate


@intrinsic
def fetch(context, array, index):
    """Ask for the cache line of an element of an array, given the tuple of its indices."""

    def generate(context, builder, signature, arguments):
        array, index = arguments[0], cgutils.unpack_tuple(builder, arguments[1])
        _prefetch(builder, _pointer(context, builder, signature.args[0], array, *index))
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def multiply(context, rows, b, step, blocks, ahead, height, width, totals, bias, masks, targets):
    """Add the products of the pixels of a tile with a rectangle of neighbours to their sums.

        s[i, j, x] = sum_mn rows[i][step m + BLOCK x + n] b[step m + BLOCK (x + j) + n]
        targets[i, j][x] += masks[j, x] & (s[i, j, x] + bias totals[x + j])

    There are ``height`` rows i, at most `TALL`, ``width`` columns j, at most `WIDE`, ``blocks`` m,
    `BLOCK` n, and `TILE` pixels x. All places are addresses; ``rows`` and ``targets`` are int64
    arrays of them, and masks one of int32, shape (WIDE, TILE). For each m a line of the cache is
    fetched, from ``ahead`` on. Where `DOT`, the products are those of rows[i] - `BIAS`.
    """

    def generate(context, builder, signature, arguments):
        _, b, step, blocks, ahead, height, width, totals, bias, _, _ = arguments
        bias = _repeated(builder, builder.trunc(bias, _BIT32))

        def place(argument, *indices):
            array, kind = arguments[argument], signature.args[argument]
            return _pointer(context, builder, kind, array, *map(_INDEX, indices))

        def emit(tall, wide):
            first = [_at(builder, builder.load(place(0, i))) for i in range(tall)]
            sums = _emit_products(builder, first, _at(builder, b), step, blocks, ahead, wide)
            for j in range(wide):
                total = _at(builder, builder.add(totals, _INDEX(4 * j)), _SUMS)
                more = builder.mul(builder.load(total, align=4), bias)
                mask = builder.load(_as(builder, place(9, j, 0), _SUMS), align=4)
                for i in range(tall):
                    found = builder.and_(builder.add(sums[i, j], more), mask)
                    target = _at(builder, builder.load(place(10, i * WIDE + j)), _SUMS)
                    found = builder.add(builder.load(target, align=4), found)
                    builder.store(found, target, align=4)

        done = builder.append_basic_block("done")
        case = builder.add(builder.mul(height, _INDEX(WIDE + 1)), width)
        switch = builder.switch(case, done)
        for tall in range(1, TALL + 1):
            for wide in range(1, WIDE + 1):
                with builder.goto_block(builder.append_basic_block()):
                    switch.add_case(_INDEX(tall * (WIDE + 1) + wide), builder.block)
                    emit(tall, wide)
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(
        rows, b, step, blocks, ahead, height, width, totals, bias, masks, targets
    ), generate


@intrinsic
def add_up(context, a, step, blocks, sums):
    """Set sums[x] to the sum of the samples a[step m + BLOCK x + n]; both are addresses.

    There are ``blocks`` m, `BLOCK` n, and `TILE` pixels x.
    """

    def generate(context, builder, signature, arguments):
        a, step, blocks, sums = arguments
        found = _emit_products(builder, [None], _at(builder, a), step, blocks, _INDEX(0), 1)
        builder.store(found[0, 0], _at(builder, sums, _SUMS), align=4)
        return context.get_dummy_value()

    return types.void(a, step, blocks, sums), generate


@intrinsic(prefer_literal=True)
def interleave(context, source, stride, samples, places, channels):
    """Set samples[places[c] + BLOCK x + n] = source[n stride + channels x + c], x = 0 ... 15.

    All places are addresses, ``places`` an array of offsets, and ``channels`` a literal number.
    """
    number = channels.literal_value

    def generate(context, builder, signature, arguments):
        source, stride, samples, places, _ = arguments
        kind = ir.VectorType(_BYTE, 16 * number)
        images = [builder.add(source, builder.mul(stride, _INDEX(n))) for n in range(BLOCK)]
        pixels = [builder.load(_at(builder, image, kind), align=1) for image in images]
        pair = [x + 16 * n for x in range(16) for n in range(2)]
        block = [2 * x + n for x in range(16) for n in (0, 1, 32, 33)]
        for c in range(number):
            own = range(c, 16 * number, number)
            columns = [_choose(builder, image, image, own) for image in pixels]
            low, high = (_choose(builder, columns[n], columns[n + 1], pair) for n in (0, 2))
            place = builder.load(_pointer(context, builder, signature.args[3], places, _INDEX(c)))
            target = _at(builder, builder.add(samples, place), ir.VectorType(_BYTE, 16 * BLOCK))
            builder.store(_choose(builder, low, high, block), target, align=1)
        return context.get_dummy_value()

    return types.void(source, stride, samples, places, channels), generate


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
def blur_tile(context, half, source, first, step, result, place):
    """Weigh `BLURRED` adjacent pixels x and their neighbours on both sides, i = first + x.

        result[place + x] = half[0] source[i]
                            + sum_k half[k] (source[i - k step] + source[i + k step])

    Terms are added one after the other, in registers; there is at least one k.
    """

    def generate(context, builder, signature, arguments):
        half, source, first, step, result, place = arguments
        kinds = signature.args
        shape = context.make_array(kinds[0])(context, builder, half).shape
        count = cgutils.unpack_tuple(builder, shape, 1)[0]
        parts = [_INDEX(n * WEIGHED) for n in range(BLURRED // WEIGHED)]

        def pixels(at, part):
            pixel = _pointer(context, builder, kinds[1], source, builder.add(at, part))
            return builder.load(_as(builder, pixel, _FLOATS), align=4)

        def weight(k):
            value = builder.load(_pointer(context, builder, kinds[0], half, k))
            return _repeated(builder, value, _FLOATS)

        middle = weight(_INDEX(0))
        begun = [builder.fmul(middle, pixels(first, part)) for part in parts]
        starts = _INDEX(1), builder.sub(first, step), builder.add(first, step)
        entry, loop = builder.block, builder.append_basic_block("taps")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, before, after = (builder.phi(_INDEX) for _ in range(3))
        totals = [builder.phi(_FLOATS) for _ in parts]
        share = weight(k)
        sums = []
        for total, part, start in zip(totals, parts, begun, strict=True):
            both = builder.fadd(pixels(before, part), pixels(after, part))
            sums.append(builder.fadd(total, builder.fmul(share, both)))
            total.add_incoming(start, entry)
            total.add_incoming(sums[-1], loop)
        following = builder.add(k, _INDEX(1))
        ends = following, builder.sub(before, step), builder.add(after, step)
        for phi, start, end in zip((k, before, after), starts, ends, strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(end, loop)
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        builder.position_at_end(done)
        for total, part in zip(sums, parts, strict=True):
            target = _pointer(context, builder, kinds[4], result, builder.add(place, part))
            builder.store(total, _as(builder, target, _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(half, source, first, step, result, place), generate


def _emit_products(builder, rows, b, step, blocks, ahead, wide):
    """Write the loop over blocks of samples.

    Returns vectors of sums for the pixels of a tile, by row and column. Without rows, all factors
    are 1.
    """
    entry, loop = builder.block, builder.append_basic_block("blocks")
    builder.branch(loop)
    builder.position_at_end(loop)
    block, begin = builder.phi(_INDEX), builder.phi(_INDEX)
    old = {(i, j): builder.phi(_SUMS) for i in range(len(rows)) for j in range(wide)}
    factors, add_products = (_fours, _add_fours) if DOT else (_pairs, _add_pairs)
    if rows[0] is not None:
        lines = builder.add(ahead, builder.mul(block, _INDEX(LINE)))
        _prefetch(builder, _at(builder, lines))
    first = [
        None if row is None else factors(builder, builder.gep(row, [begin]), False) for row in rows
    ]
    new = {}
    for j in range(wide):
        second = factors(builder, builder.gep(b, [builder.add(begin, _INDEX(BLOCK * j))]), True)
        for i in range(len(rows)):
            new[i, j] = add_products(builder, old[i, j], first[i], second)
    after = builder.add(block, _INDEX(1))
    variables = [block, begin, *old.values()]
    following = [after, builder.add(begin, step), *(new[key] for key in old)]
    for variable, value in zip(variables, following, strict=True):
        variable.add_incoming(ir.Constant(variable.type, None), entry)
        variable.add_incoming(value, loop)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, blocks), loop, done)
    builder.position_at_end(done)
    return new


def _fours(builder, pointer, positive):
    """Load the samples of a tile, four in an element: as they are, or less `BIAS`."""
    samples = builder.load(_as(builder, pointer, _BLOCKS), align=1)
    if not positive:
        samples = builder.xor(samples, ir.Constant(_BLOCKS, [BIAS] * _BLOCKS.count))
    return builder.bitcast(samples, _SUMS)


def _add_fours(builder, sums, a, b):
    """Add four adjacent products to each sum: b has no sign, a has one."""
    if a is None:
        a = builder.bitcast(ir.Constant(_BLOCKS, [1] * _BLOCKS.count), _SUMS)
    kind = ir.FunctionType(_SUMS, [_SUMS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [sums, b, a])


def _pairs(builder, pointer, positive):
    """Load the samples of a tile: those of even number, and those of odd, as 16-bit numbers."""
    kind = ir.VectorType(ir.IntType(16), 2 * TILE)
    samples = builder.load(_as(builder, pointer, kind), align=1)
    low = builder.and_(samples, ir.Constant(kind, [255] * kind.count))
    return low, builder.lshr(samples, ir.Constant(kind, [8] * kind.count))


def _add_pairs(builder, sums, a, b):
    """Add four products to each sum, as two times two adjacent ones."""
    kind = ir.VectorType(_BIT32, 2 * TILE)
    for m, other in enumerate(b):
        product = builder.zext(other, kind)
        if a is not None:
            product = builder.mul(builder.zext(a[m], kind), product)
        even, odd = (_choose(builder, product, product, range(n, 2 * TILE, 2)) for n in (0, 1))
        sums = builder.add(sums, builder.add(even, odd))
    return sums


def _repeated(builder, value, kind=_SUMS):
    """Return a vector of copies of a number."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _BIT32(0))
    return _choose(builder, one, one, [0] * kind.count)


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


def _at(builder, place, kind=_BYTE):
    """Return a pointer to an address."""
    return builder.inttoptr(place, kind.as_pointer())
