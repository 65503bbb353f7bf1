"""Memory for decoded chunks that later blocks read as well: what the passes leave.

A larger tile saves arithmetic, which costs more than reading. So tiles are chosen with a cache of a
bounded share of the memory, which then grows into what they leave.
"""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.plan.parts import Tiling

# Maximum size of the cache, in inputs of a block.
MAX_CACHED_BLOCKS = 24


def with_larger_cache(tilings: Sequence[Tiling], memory: int, read: int) -> list[Tiling]:
    """Tilings, one of which a worker uses, with a cache as large as all of them leave `memory` for.

    `read` is the number of bytes that a block reads.
    """
    least = max(tiling.cache_bytes for tiling in tilings)
    left = memory - max(tiling.memory_bytes for tiling in tilings)
    more = max(0, min(left, MAX_CACHED_BLOCKS * read - least))
    return [
        tiling.model_copy(
            update={
                "cache_bytes": tiling.cache_bytes + more,
                "memory_bytes": tiling.memory_bytes + more,
            }
        )
        for tiling in tilings
    ]
