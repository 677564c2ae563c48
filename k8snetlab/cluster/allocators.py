"""The API server's two pools, ClusterIPs and nodePorts: given values are honoured, others come from the dynamic band.

Both keep their lower part free for values that people choose and start above it (KEP-3070 and KEP-3668); Kubernetes
then picks at random, the lab the first free one, so that the same manifests always make the same lab.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from k8snetlab.cluster.model import IPNetwork


@dataclass(slots=True)
class NumberPool:
    """Numbers `low` … `high`, dynamic ones from `band` on. `holders` says who has which."""

    low: int
    high: int
    band: int
    holders: dict[int, str] = field(default_factory=dict)
    _cursor: int = -1

    def reserve(self, number: int, holder: str) -> str:
        """Take this very number; the answer is who has it already, or empty when it is now `holder`'s."""
        other = self.holders.setdefault(number, holder)
        return "" if other == holder else other

    def allocate(self, holder: str) -> int | None:
        """The first free number of the dynamic band, then of the lower one; None when there is none."""
        if len(self.holders) > self.high - self.low:
            return None
        cursor = self.band if self._cursor < 0 else self._cursor
        while True:
            if cursor > self.high:
                cursor = self.low
            if cursor not in self.holders:
                break
            cursor += 1
        self.holders[cursor] = holder
        self._cursor = cursor + 1
        return cursor

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.low <= number <= self.high


def node_port_pool(port_range: tuple[int, int]) -> NumberPool:
    """The static band is min(max(16, size/32), 128) ports: 86 of the default range (KEP-3668)."""
    low, high = port_range
    size = high - low + 1
    band = 0 if size <= 16 else min(max(16, size // 32), 128)
    return NumberPool(low, high, low + band)


def cluster_ip_pool(subnet: IPNetwork) -> NumberPool:
    """Addresses as integers. The static band is min(max(16, size/16), 256) addresses (KEP-3070).

    Neither the network address nor, with IPv4, the broadcast address is ever given out.
    """
    size = subnet.num_addresses
    band = 0 if size <= 16 else min(max(16, size // 16), 256)
    low = int(subnet.network_address) + 1
    high = int(subnet.broadcast_address) - (1 if subnet.version == 4 else 0)
    return NumberPool(low, max(high, low), low + band)
