"""Three kinds of admin policies, read as one."""

from __future__ import annotations

from ipaddress import ip_network
from textwrap import dedent

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.cluster.tiers import TieredPort, tiered_policies
from k8snetlab.errors import Source
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.load import load_text


def cluster(text: str) -> Cluster:
    return resolve(load_text(dedent(text).encode(), "t.yaml"))


ALL_THREE = """
    apiVersion: policy.networking.k8s.io/v1alpha1
    kind: BaselineAdminNetworkPolicy
    metadata: {name: default}
    spec:
      subject: {namespaces: {}}
      ingress:
      - {action: Deny, from: [{namespaces: {}}]}
    ---
    apiVersion: policy.networking.k8s.io/v1alpha2
    kind: ClusterNetworkPolicy
    metadata: {name: late}
    spec:
      tier: Admin
      priority: 20
      subject: {pods: {podSelector: {matchLabels: {a: b}}}}
      egress:
      - name: mail
        action: Accept
        to: [{networks: [10.1.2.3/8, "fd00::/8"]}, {nodes: {}}, {domainNames: [example.com]}]
        protocols:
        - tcp: {destinationPort: {number: 25}}
        - udp: {destinationPort: {range: {start: 5, end: 7}}}
    ---
    apiVersion: policy.networking.k8s.io/v1alpha1
    kind: AdminNetworkPolicy
    metadata: {name: early}
    spec:
      priority: 10
      subject: {namespaces: {}}
      ingress:
      - action: Allow
        from: [{pods: {namespaceSelector: {}, podSelector: {}}}]
        ports: [{namedPort: web}, {portNumber: {port: 80}}, {portRange: {protocol: UDP, start: 1, end: 2}}]
    """


def test_order_and_actions() -> None:
    found = tiered_policies(cluster(ALL_THREE))
    assert [(each.kind, each.name, each.tier, each.priority) for each in found] == [
        ("AdminNetworkPolicy", "early", "Admin", 10),
        ("ClusterNetworkPolicy", "late", "Admin", 20),
        ("BaselineAdminNetworkPolicy", "default", "Baseline", 0),
    ]
    assert [rule.action for each in found for rule in (*each.ingress, *each.egress)] == ["Accept", "Accept", "Deny"]
    assert found[2].ingress[0].ports is None


def test_peers_and_ports() -> None:
    early, late, _ = tiered_policies(cluster(ALL_THREE))
    networks, nodes, domains = late.egress[0].peers
    assert networks.networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert nodes.nodes == LabelSelector()
    assert nodes.networks == ()
    assert domains.domain_names == ("example.com",)
    assert late.subject.pods == LabelSelector(match_labels={"a": "b"})
    assert late.egress[0].ports == (
        TieredPort(protocol="TCP", first=25, last=25, source=Source("t.yaml", 22)),
        TieredPort(protocol="UDP", first=5, last=7, source=Source("t.yaml", 23)),
    )
    assert early.ingress[0].ports is not None
    assert [(p.name, p.protocol, p.first, p.last) for p in early.ingress[0].ports] == [
        ("web", "TCP", 0, 0),
        ("", "TCP", 80, 80),
        ("", "UDP", 1, 2),
    ]
    assert late.source is not None
    assert (late.source.line, late.egress[0].source) != (0, None)
