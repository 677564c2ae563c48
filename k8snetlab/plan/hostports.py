"""hostPort: ports of a node that lead to a pod, by the chains that the CNI plugin `portmap` writes.

After containernetworking/plugins, plugins/meta/portmap/portmap_iptables.go, with its defaults (snat on, mark bit 13):
CNI-HOSTPORT-DNAT is asked for whatever goes to an address of the node itself, from outside and from the node, and
enters the chain of a pod by its ports. There each mapping has up to three rules: mark what comes from the pod's own
network (hairpin), mark what comes from 127.0.0.1, and translate. What is marked is masqueraded on its way out, since
its answer would otherwise not come back by the node. Clusters use this also beside kube-proxy's nftables mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256, sha512
from typing import Final

from k8snetlab.cluster.hostports import PortMapping, pods_with_mappings, port_mappings
from k8snetlab.cluster.model import Cluster, IPAddress, Node, Pod
from k8snetlab.cluster.networks import facts, pod_interface
from k8snetlab.plan.families import of_family
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, Sysctl

DNAT_CHAIN: Final = "CNI-HOSTPORT-DNAT"
SETMARK_CHAIN: Final = "CNI-HOSTPORT-SETMARK"
MASQUERADE_CHAIN: Final = "CNI-HOSTPORT-MASQ"
MARK: Final = "0x2000/0x2000"
MOST_PORTS: Final = 15  # of one multiport match
LONGEST_CHAIN: Final = 28


class HostPortRules:
    """The planner of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = facts(cluster.config.network).conflist
        self._pods = pods_with_mappings(cluster)

    def pods(self, node: Node) -> tuple[Pod, ...]:
        return self._pods.get(node.name, ())

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """Write the chains; nothing where no pod of the node has a host port.

        The jumps are appended (kube-proxy's come first, so a nodePort of the same number wins), but for the one to the
        masquerade, which is prepended.
        """
        pods = [(pod, ip) for pod in self.pods(node) if (ip := of_family(pod.ips, family)) is not None]
        if not pods:
            return
        for hook in ("PREROUTING", "OUTPUT"):
            ruleset.chain("nat", hook).append(f"-m addrtype --dst-type LOCAL -j {DNAT_CHAIN}")
        ruleset.chain("nat", "POSTROUTING").insert(
            0, f'-m comment --comment "CNI portfwd requiring masquerade" -j {MASQUERADE_CHAIN}'
        )
        ruleset.chain("nat", SETMARK_CHAIN).append(
            f'-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark {MARK}'
        )
        ruleset.chain("nat", MASQUERADE_CHAIN).append(f"-m mark --mark {MARK} -j MASQUERADE")
        for pod, ip in pods:
            chain = pod_chain(self.name, pod)
            ruleset.chain("nat", DNAT_CHAIN).extend(self._entries(pod, chain))
            network = pod_interface(self.cluster.config, node, ip).network
            for mapping in port_mappings(pod):
                ruleset.chain("nat", chain).extend(_mapping_rules(mapping, ip, str(network)))

    def _entries(self, pod: Pod, chain: str) -> Iterator[str]:
        comment = f'-m comment --comment "dnat name: \\"{self.name}\\" id: \\"{sandbox_id(pod)}\\""'
        ports: defaultdict[str, list[int]] = defaultdict(list)
        for mapping in port_mappings(pod):
            ports[mapping.protocol.lower()].append(mapping.port)
        for protocol, numbers in sorted(ports.items()):
            for start in range(0, len(numbers), MOST_PORTS):
                listed = ",".join(str(number) for number in numbers[start : start + MOST_PORTS])
                yield f"-p {protocol} {comment} -m multiport --dports {listed} -j {chain}"


def let_loopback_out(netns: str, link: str) -> Sysctl:
    """What portmap sets on the way to the pods, where there are host ports and IPv4: the kernel takes what a node sends
    from 127.0.0.1 over any link for Martians."""
    return Sysctl(netns, f"net.ipv4.conf.{link.replace('.', '/')}.route_localnet", "1")


def sandbox_id(pod: Pod) -> str:
    """What stands for the container id of the pod's sandbox: 64 hexadecimal digits, always the same for one pod."""
    return sha256(f"sandbox {pod.key}".encode()).hexdigest()


def pod_chain(network: str, pod: Pod) -> str:
    """`CNI-DN-` and as much of a hash as fits (plugins/pkg/utils, MustFormatChainNameWithPrefix)."""
    return f"CNI-DN-{sha512((network + sandbox_id(pod)).encode()).hexdigest()}"[:LONGEST_CHAIN]


def _mapping_rules(mapping: PortMapping, ip: IPAddress, network: str) -> Iterator[str]:
    """Three rules, two with IPv6; none when the address of the node is of the other family."""
    if mapping.address is not None and mapping.address.version != ip.version:
        return
    to = f"-d {mapping.address}/{ip.max_prefixlen} " if mapping.address is not None else ""
    protocol = mapping.protocol.lower()
    port = f"{to}-p {protocol} -m {protocol} --dport {mapping.port}"
    yield f"-s {network} {port} -j {SETMARK_CHAIN}"
    if ip.version == 4:
        yield f"-s 127.0.0.1/32 {port} -j {SETMARK_CHAIN}"
    target = f"{ip}:{mapping.container_port}" if ip.version == 4 else f"[{ip}]:{mapping.container_port}"
    yield f"{port} -j DNAT --to-destination {target}"
