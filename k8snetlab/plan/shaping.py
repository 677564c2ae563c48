"""How deep a token bucket is, in bytes, for its rate in bits a second.

The bandwidth plugin takes the burst from its caller, and containerd asks for as much as a number can say, which lets
half a gigabyte pass before any limit is felt. Here a bucket holds a hundredth of a second, so that the limit is seen.
The latency is the plugin's own (plugins/meta/bandwidth/ifb_creator.go).
"""

from __future__ import annotations

from typing import Final

_SMALLEST_BURST: Final = 15_000  # ten Ethernet frames; a large segment must fit
_LATENCY_MS: Final = 25


def burst(rate: int) -> int:
    return max(rate // 8 // 100, _SMALLEST_BURST)


def limit(rate: int) -> int:
    """What may wait in the queue, the bucket included."""
    return rate // 8 * _LATENCY_MS // 1000 + burst(rate)
