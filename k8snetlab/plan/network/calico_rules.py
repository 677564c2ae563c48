"""What Felix writes for the way out of Calico's pools: two ipsets a family and the chains that ask them.

Addresses of pools with natOutgoing are masqueraded when they go to no pool at all. Source: Calico,
felix/dataplane/linux/masq_mgr.go and felix/rules/nat.go; the hashes in the comments are those that Felix computes for
these very rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, IpSet, IpSetEntry


def pool_sets(cluster: Cluster, node: Node) -> Iterator[IpSet | IpSetEntry]:
    """All pools, and those whose traffic to the outside is masqueraded."""
    for family in cluster.config.families:
        pools = [pool for pool in cluster.ip_pools if pool.cidr.version == family]
        for name, members in (
            (_all_pools(family), pools),
            (_masqueraded_pools(family), [pool for pool in pools if pool.nat_outgoing]),
        ):
            yield IpSet(node.name, name, "hash:net", family)
            for pool in members:
                yield IpSetEntry(node.name, name, str(pool.cidr))


def write_nat(family: Family, ruleset: Ruleset, tunnel: str) -> None:
    """Felix inserts its jump before those of others. `tunnel` is the VXLAN device, empty for none: what the node itself
    sends into it must have the device's address, whatever it was before."""
    ruleset.chain("nat", "POSTROUTING").insert(0, '-m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING')
    chain = ruleset.chain("nat", "cali-POSTROUTING")
    chain.append('-m comment --comment "cali:Z-c7XtVd2Bq7s_hA" -j cali-fip-snat')
    chain.append('-m comment --comment "cali:nYKhEzDlr11Jccal" -j cali-nat-outgoing')
    if tunnel:
        chain.append(
            f'-o {tunnel} -m comment --comment "cali:e9dnSgSVNmIcpVhP" -m addrtype ! --src-type LOCAL'
            " --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully"
        )
    ruleset.chain("nat", "cali-fip-snat")
    ruleset.chain("nat", "cali-nat-outgoing").append(
        f'-m comment --comment "cali:flqWnvo8yq4ULQLa" -m set --match-set {_masqueraded_pools(family)} src'
        f" -m set ! --match-set {_all_pools(family)} dst -j MASQUERADE --random-fully"
    )


def _all_pools(family: Family) -> str:
    return f"cali{family}0all-ipam-pools"


def _masqueraded_pools(family: Family) -> str:
    return f"cali{family}0masq-ipam-pools"
