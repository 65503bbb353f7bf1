"""How often input chunks are decoded, by the order of blocks, the workers, and their caches.

    python -m benchmarks.reading

An exact simulation, without volume or network: 4096^3 voxels of uint8 in chunks of 64^3, and the
blocks that `predict plan` chooses for COSEM's network (super-resolution 2, context of 182 input
voxels, 14 channels, bfloat16) and 8 or 16 GiB per worker. Results: benchmarks/results/reading.md.

Chunks that the same blocks read are counted together, as one item of many bytes.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np

from blockwise_predict.geometry.lattice import AxisLattice
from blockwise_predict.geometry.order import BlockOrder, num_blocks
from blockwise_predict.plan.reading import AxisChunks, best_order
from blockwise_predict.scheduling.blocks import DaisyBlockSource

RESULTS = Path(__file__).parent / "results" / "reading.md"
EDGE, CHUNK = 4096, 64
SCALE, LOST, PERIOD, TILE = 2, 182, 18, 630
# Memory of a worker in GiB, its block (output voxels), and its cache in MiB, as planned.
PLANS = [(8, (832, 768, 704), 1612), (16, (832, 832, 832), 5246)]
# The cache before blocks were ordered: two inputs of a block, or 5 % of the memory.
FORMER_CACHES = {8: 364, 16: 437}
WORKERS = (1, 4, 16)
MIB = 2**20

Index = tuple[int, ...]
Handing = Callable[[list[Index], int], Iterator[tuple[int, Index]]]


@dataclass(frozen=True)
class Axis:
    """The items along an axis: numbers of chunks, and the items that each block reads."""

    sizes: list[int]
    reads: list[range]
    chunks: AxisChunks

    @classmethod
    def of(cls, block: int) -> Axis:
        """The axis of a volume of EDGE, divided into blocks of an edge in output voxels."""
        lattice = AxisLattice(PERIOD, SCALE, LOST, LOST, PERIOD * SCALE, TILE)
        chunks = []
        for begin in range(0, EDGE * SCALE, block):
            low, high = lattice.input_range(begin, min(begin + block, EDGE * SCALE))
            chunks.append(range(max(0, low) // CHUNK, -(-min(high, EDGE) // CHUNK)))
        cuts = sorted({end for read in chunks for end in (read.start, read.stop)})
        sizes = [high - low for low, high in itertools.pairwise(cuts)]
        pairs = list(itertools.pairwise(chunks))
        counts = AxisChunks(
            total=EDGE // CHUNK,
            of_block=max(map(len, chunks)),
            shared=max(a.stop - b.start for a, b in pairs),
            step=Fraction(block, SCALE * CHUNK),
        )
        return cls(sizes, [range(cuts.index(r.start), cuts.index(r.stop)) for r in chunks], counts)


@dataclass(frozen=True)
class Volume:
    """The grid of blocks, and what each reads."""

    axes: list[Axis]

    @property
    def grid(self) -> Index:
        """Number of blocks along each axis."""
        return tuple(len(axis.reads) for axis in self.axes)

    def items(self, block: Index) -> Iterator[Index]:
        """The items that a block reads."""
        reads = (axis.reads[place] for axis, place in zip(self.axes, block, strict=True))
        return itertools.product(*reads)

    def bytes(self, item: Index) -> int:
        """Decoded bytes of an item."""
        sizes = (axis.sizes[place] for axis, place in zip(self.axes, item, strict=True))
        return prod(sizes) * CHUNK**3


def in_turn(blocks: list[Index], workers: int) -> Iterator[tuple[int, Index]]:
    """Each worker gets the next block of the order."""
    return ((number % workers, block) for number, block in enumerate(blocks))


def in_runs(blocks: list[Index], workers: int) -> Iterator[tuple[int, Index]]:
    """Each worker gets a run of blocks that follow each other."""
    for worker in range(workers):
        bounds = (len(blocks) * number // workers for number in (worker, worker + 1))
        yield from ((worker, block) for block in blocks[slice(*bounds)])


def as_scheduled(order: BlockOrder, workers: int) -> Iterator[tuple[int, Index]]:
    """Each worker gets what the scheduler of a run gives it, if all are equally fast."""
    with closing(DaisyBlockSource(order, np.zeros(prod(order.grid), np.uint8), workers)) as source:
        for worker in itertools.cycle(range(workers)):
            number = source.next(worker)
            if number is None:
                return
            yield worker, order.index_of(number)


def decoded_by_recency(volume: Volume, handed: Iterator[tuple[int, Index]], cache: int) -> int:
    """Bytes that are decoded if workers keep the chunks that were read last."""
    decoded = 0
    kept: dict[int, OrderedDict[Index, int]] = {}
    room: dict[int, int] = {}
    for worker, block in handed:
        mine = kept.setdefault(worker, OrderedDict())
        for item in volume.items(block):
            if item in mine:
                mine.move_to_end(item)
                continue
            size = volume.bytes(item)
            decoded += size
            mine[item] = size
            room[worker] = room.get(worker, cache) - size
            while room[worker] < 0:
                room[worker] += mine.popitem(last=False)[1]
    return decoded


def decoded_by_need(
    volume: Volume, order: BlockOrder, handed: Iterator[tuple[int, Index]]
) -> tuple[int, int]:
    """Bytes that are decoded if workers keep the chunks that later blocks of the column read, and
    the most that are kept, with the block being read."""
    decoded = most = 0
    last_uses: dict[Index, dict[Index, Index]] = {}
    for index in np.ndindex(*order.grid):
        column = order.place_of(index)
        time = tuple(index[axis] for axis in order.axes)
        for item in volume.items(index):
            uses = last_uses.setdefault(column, {})
            uses[item] = max(time, uses.get(item, time))
    kept: dict[int, dict[Index, int]] = {}
    before: dict[int, Index] = {}
    for worker, block in handed:
        column = order.place_of(block)
        time = tuple(block[axis] for axis in order.axes)
        mine = kept.setdefault(worker, {})
        if before.get(worker) != column:
            mine.clear()
        before[worker] = column
        read = {item: volume.bytes(item) for item in volume.items(block)}
        decoded += sum(size for item, size in read.items() if item not in mine)
        most = max(most, sum(mine.values()) + sum(read.values()))
        mine |= read
        for item in [item for item in mine if last_uses[column][item] <= time]:
            del mine[item]
    return decoded, most


def ordered(order: BlockOrder) -> list[Index]:
    """The places of all blocks, in an order."""
    columns = [order.column_at(place) for place in np.ndindex(*order.columns)]
    numbers = [order.numbers(column, 0, num_blocks(column)).tolist() for column in columns]
    return [order.index_of(number) for number in itertools.chain(*numbers)]


def morton(blocks: list[Index]) -> list[Index]:
    """Blocks along the Z-order curve."""

    def key(block: Index) -> int:
        bits = range(max(max(b) for b in blocks).bit_length())
        return sum(
            (place >> bit & 1) << (bit * len(block) + len(block) - 1 - axis)
            for bit in bits
            for axis, place in enumerate(block)
        )

    return sorted(blocks, key=key)


def hilbert(blocks: list[Index]) -> list[Index]:
    """Blocks along Hilbert's curve (J. Skilling, Programming the Hilbert curve, 2004)."""
    bits = max(max(block) for block in blocks).bit_length()

    def key(block: Index) -> int:
        x = list(block)
        for level in reversed(range(1, bits)):
            low = (1 << level) - 1
            for axis in range(len(x)):
                if x[axis] >> level & 1:
                    x[0] ^= low
                else:
                    swapped = (x[0] ^ x[axis]) & low
                    x[0], x[axis] = x[0] ^ swapped, x[axis] ^ swapped
        for axis in range(1, len(x)):
            x[axis] ^= x[axis - 1]
        mask = 0
        for level in reversed(range(1, bits)):
            if x[-1] >> level & 1:
                mask ^= (1 << level) - 1
        x = [place ^ mask for place in x]
        return sum(
            (place >> bit & 1) << (bit * len(x) + len(x) - 1 - axis)
            for bit in range(bits)
            for axis, place in enumerate(x)
        )

    return sorted(blocks, key=key)


def snake(volume: Volume) -> list[Index]:
    """Blocks row by row, to and fro."""
    z, y, x = volume.grid
    return [
        (a, b if a % 2 == 0 else y - 1 - b, c if (a * y + b) % 2 == 0 else x - 1 - c)
        for a, b, c in itertools.product(range(z), range(y), range(x))
    ]


def planned_order(volume: Volume, cache: int, workers: int) -> BlockOrder:
    """The order that a plan chooses for a cache (bytes)."""
    chunks = [axis.chunks for axis in volume.axes]
    order = best_order(volume.grid, chunks, cache // CHUNK**3, workers)
    assert order is not None
    return order


def rows(memory: int, block: Index, cache: int) -> Iterator[list[str]]:
    """Rows of the table for one memory of workers."""
    volume = Volume([Axis.of(edge) for edge in block])
    total = EDGE**3
    planned = {workers: planned_order(volume, cache * MIB, workers) for workers in WORKERS}
    in_c = ordered(BlockOrder.in_c_order(volume.grid))
    orders = {
        "C order": in_c,
        "C order, to and fro": snake(volume),
        "Morton": morton(in_c),
        "Hilbert": hilbert(in_c),
        "columns": ordered(planned[1]),
    }
    former = FORMER_CACHES[memory]
    cases: list[tuple[str, int, Handing]] = [
        ("C order", former, in_turn),
        *((name, cache, in_turn) for name in ("C order", "Morton")),
        *((name, cache, in_runs) for name in orders),
    ]
    for name, mib, handing in cases:
        values = [
            decoded_by_recency(volume, handing(orders[name], workers), mib * MIB) / total
            for workers in WORKERS
        ]
        how = "in turn" if handing is in_turn else "runs"
        yield [f"{memory}", name, how, f"last read, {mib}", *(f"{value:.2f}" for value in values)]
    found = [decoded_by_need(volume, planned[w], as_scheduled(planned[w], w)) for w in WORKERS]
    kept = f"needed again, {max(most for _, most in found) / MIB:.0f}"
    name = f"columns of {', '.join(map(shape_of, planned.values()))}"
    figures = (f"**{decoded / total:.2f}**" for decoded, _ in found)
    yield [f"{memory}", name, "as scheduled", kept, *figures]


def shape_of(order: BlockOrder) -> str:
    """The shape of a column, in blocks."""
    return " x ".join(map(str, order.column))


def main() -> None:
    """Print the table, and write it to RESULTS."""
    head = ["GiB", "order of blocks", "given", "chunks kept, MiB", *(f"W = {w}" for w in WORKERS)]
    table = [head, ["---"] * len(head)]
    for plan in PLANS:
        table += rows(*plan)
    lines = [f"| {' | '.join(row)} |" for row in table]
    text = "\n".join([f"({date.today()}, `python -m benchmarks.reading`)", "", *lines])
    print(text)
    begin = "<!-- table -->\n"
    before = RESULTS.read_text().split(begin)[0] if RESULTS.exists() else ""
    RESULTS.write_text(f"{before}{begin}\n{text}\n")


if __name__ == "__main__":
    main()
