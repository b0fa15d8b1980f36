"""Which pieces go into which block: bin packing from lengths, never from documents.

Pieces of one length are alike, so are blocks with one free space, and there are at most as many different
ones as a block has tokens. Both ways below count them, so their work grows with the number of lengths.

Best-fit decreasing comes first: the longest piece first, each into the block whose free space fits it most
tightly. Unless that needs no more blocks than the tokens do, blocks are also filled one by one, each to its
last token where lengths allow it, and the way that needs fewer blocks is taken. Neither is always ahead; on
chat data at 8192 the second reaches the fewest blocks possible.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from pipeline.pieces import offsets

#: (length, first, blocks, each): the next blocks * each pieces of a length, into neighbouring blocks.
Move = tuple[int, int, int, int]


@dataclass(frozen=True)
class Bins:
    """Which pieces stand in which block."""

    order: np.ndarray
    """The pieces of the first block, of the second, ..."""
    ends: np.ndarray
    """Where in `order` each block ends."""


def arrange(lengths: np.ndarray, block: int) -> Bins:
    """Pieces of these `lengths` (each from 1 to `block`) in blocks, sorted by their first piece.

    Among pieces of one length the first is taken first; in a block the longest stands first.
    """
    count = np.bincount(lengths, minlength=block + 1)
    moves = best_fit(count, block)
    if used(moves) > -(-int(lengths.sum()) // block):
        moves = min(moves, exact_fit(count, block), key=used)
    descending = np.argsort(small(block - lengths), kind="stable")
    moves = sorted(moves, key=lambda move: -move[0])
    _, first, blocks, each = np.array(moves, np.int64).reshape(-1, 4).T
    amounts = blocks * each
    within = np.arange(len(lengths)) - np.repeat(offsets(amounts)[:-1], amounts)
    home = np.empty(len(lengths), np.int64)
    home[descending] = np.repeat(first, amounts) + within // np.repeat(each, amounts)
    leader = np.empty(home.max(initial=-1) + 1, np.int64)
    leader[home[::-1]] = np.arange(len(lengths))[::-1]  # the last assignment stays: the first piece
    place = np.empty(len(leader), np.int64)
    place[np.argsort(leader)] = np.arange(len(leader))
    home = place[home]
    order = descending[np.argsort(small(home[descending]), kind="stable")]
    return Bins(order, np.cumsum(np.bincount(home, minlength=len(leader))))


def used(moves: list[Move]) -> int:
    """How many blocks the moves fill."""
    return max((first + blocks for _, first, blocks, _ in moves), default=0)


def small(numbers: np.ndarray) -> np.ndarray:
    """The numbers in 16 bits where they fit: such are sorted in linear time."""
    return numbers.astype(np.uint16) if numbers.max(initial=0) < 1 << 16 else numbers


def best_fit(count: np.ndarray, block: int) -> list[Move]:
    """Best-fit decreasing of `count[n]` pieces of n tokens.

    Where the tightest space takes several pieces of a length, they all go there: after the first one it is
    tighter still.
    """
    moves: list[Move] = []
    space: list[int] = []  # the free spaces there are, sorted
    runs: dict[int, list[tuple[int, int]]] = {}  # free space: (first, blocks) of neighbours that have it
    opened = 0

    def keep(free: int, first: int, blocks: int) -> None:
        if free and blocks:
            if not runs.get(free):
                insort(space, free)
            runs.setdefault(free, []).append((first, blocks))

    for size in np.flatnonzero(count)[::-1].tolist():
        left = int(count[size])
        while left:
            at = bisect_left(space, size)
            if at == len(space):
                free, first, blocks = block, opened, -(-left // (block // size))
                opened += blocks
            else:
                free = space[at]
                first, blocks = runs[free].pop()
                if not runs[free]:
                    del space[at]
            each = free // size
            full = min(blocks, left // each)
            for part, taken in ((full, each), (int(full < blocks), left - full * each)):
                if part and taken:
                    moves.append((size, first, part, taken))
                    keep(free - taken * size, first, part)
                    first, blocks, left = first + part, blocks - part, left - part * taken
            keep(free, first, blocks)
    return moves


def exact_fit(count: np.ndarray, block: int) -> list[Move]:
    """Blocks one after the other, as `one_block` fills them; each as often as there are pieces for it."""
    left = {size: int(count[size]) for size in np.flatnonzero(count).tolist()}
    sizes = sum(1 << size for size in left)
    mirrored = sum(1 << (block - size) for size in left)
    moves: list[Move] = []
    opened = 0
    while left:
        taken = one_block(left, sizes, mirrored, block)
        blocks = min(left[size] // each for size, each in taken.items())
        for size, each in taken.items():
            moves.append((size, opened, blocks, each))
            left[size] -= blocks * each
            if not left[size]:
                del left[size]
                sizes ^= 1 << size
                mirrored ^= 1 << (block - size)
        opened += blocks
    return moves


def one_block(left: dict[int, int], sizes: int, mirrored: int, block: int) -> dict[int, int]:
    """How many pieces of which length fill one block: the longest there are, then one or two that close it.

    `sizes` has the bit n where `left` has pieces of n tokens, `mirrored` the bit block - n: shifted against
    each other they show at once which two lengths add up to a gap.
    """
    taken: dict[int, int] = {}
    gap = block

    def take(size: int, pieces: int) -> None:
        nonlocal sizes, mirrored, gap
        taken[size] = taken.get(size, 0) + pieces
        gap -= size * pieces
        if taken[size] == left[size]:
            sizes ^= 1 << size
            mirrored ^= 1 << (block - size)

    while fitting := sizes & ((1 << (gap + 1)) - 1):
        longest = fitting.bit_length() - 1
        pairs = fitting & (mirrored >> (block - gap))
        half = gap // 2
        if longest != gap and gap == 2 * half and pairs >> half & 1 and left[half] - taken.get(half, 0) < 2:
            pairs ^= 1 << half
        if longest == gap or not pairs:
            spare = left[longest] - taken.get(longest, 0)
            take(longest, max(1, min(spare, gap // longest - 1)))
        else:
            first = pairs.bit_length() - 1
            second = gap - first
            take(first, 1)
            take(second, 1)
    return taken
