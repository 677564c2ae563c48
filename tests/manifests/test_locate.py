"""The parts of a policy know their file and line, and are equal wherever they stand."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from k8snetlab.errors import Source
from k8snetlab.manifests.api.core import Pod
from k8snetlab.manifests.encode import encode
from k8snetlab.manifests.load import load_text
from k8snetlab.manifests.locate import is_located

POLICY = """\
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: db}
    spec:
      podSelector: {}
      ingress:
      - from:
        - podSelector: {}
        - ipBlock:
            cidr: 10.0.0.0/8
        ports:
        - port: 80
        - port: 443
      egress: [{}, {to: [{namespaceSelector: {}}]}]
    """
ADMIN = """\
    apiVersion: policy.networking.k8s.io/v1alpha2
    kind: ClusterNetworkPolicy
    metadata: {name: a}
    spec:
      tier: Admin
      priority: 1
      subject: {namespaces: {}}
      egress:
      - action: Deny
        to:
        - networks:
          - 0.0.0.0/0
        protocols:
        - tcp: {destinationPort: {number: 25}}
    """


def only(text: str, name: str = "p.yaml") -> Any:
    (document,) = load_text(dedent(text).encode(), name).documents
    return document.object


def line(part: Any) -> int:
    assert part.source.file == "p.yaml"
    number: int = part.source.line
    return number


def test_every_part_of_a_policy() -> None:
    policy = only(POLICY)
    (rule,) = policy.spec.ingress
    assert (line(policy), line(rule)) == (1, 7)
    assert [line(peer) for peer in rule.from_] == [8, 9]
    assert [line(port) for port in rule.ports] == [12, 13]
    assert [line(egress) for egress in policy.spec.egress] == [14, 14]
    assert line(policy.spec.egress[1].to[0]) == 14


def test_an_admin_policy() -> None:
    (rule,) = only(ADMIN).spec.egress
    assert (line(rule), line(rule.to[0]), line(rule.protocols[0])) == (9, 11, 14)


def test_within_a_list_and_behind_other_documents() -> None:
    text = "a: b\n".join(["# nothing\n---\n", ""]).replace("a: b\n", "")
    items = "".join(f"    {each}\n" for each in dedent(POLICY).splitlines())
    text += "apiVersion: v1\nkind: List\nitems:\n  -\n" + items
    (rule,) = only(text).spec.ingress
    assert line(rule) == 13


def test_an_alias_has_the_line_of_its_anchor() -> None:
    text = """\
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: a}
        spec:
          podSelector: {}
          ingress: &rules
          - {}
          egress: *rules
        """
    spec = only(text).spec
    assert [line(rule) for rule in (*spec.ingress, *spec.egress)] == [7, 7]


def test_lines_are_no_part_of_the_value() -> None:
    here, there = only(POLICY), only("# moved\n\n" + dedent(POLICY))
    assert here == there
    assert here.spec.ingress[0].source != there.spec.ingress[0].source
    assert hash(here.spec.ingress[0].ports[0]) == hash(there.spec.ingress[0].ports[0])
    assert "source" not in str(encode(here))


def test_source_is_no_field_of_the_manifest() -> None:
    for text in (POLICY, ADMIN):
        assert only(text).source == Source("p.yaml", 1)
    assert not is_located(Pod)
