from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.manifests.api.core import Pod, Service, ServicePort
from k8snetlab.manifests.api.lab import Check, CheckPeer, LabNode, LabSpec
from k8snetlab.manifests.api.networking import NetworkPolicyPeer
from k8snetlab.manifests.decode import Path, decode, dotted, shown


def wrongs(cls: type, data: Any) -> list[tuple[str, str]]:
    return [(dotted(wrong.path), wrong.message) for wrong in decode(cls, data)[1]]


def test_names_and_defaults() -> None:
    port, found = decode(ServicePort, {"port": 80, "targetPort": "http", "nodePort": None, "appProtocol": "h2c"})
    assert found == []
    assert port == ServicePort(port=80, target_port="http", app_protocol="h2c")


def test_special_keys() -> None:
    data = {"metadata": {}, "spec": {"clusterIP": "None", "externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.2"}}
    service, found = decode(Service, data)
    assert found == []
    assert (service.spec.cluster_ip, service.spec.external_ips) == ("None", ("192.0.2.1",))
    assert service.spec.load_balancer_ip == "192.0.2.2"


def test_present_and_empty_is_not_absent() -> None:
    peer, _ = decode(NetworkPolicyPeer, {"podSelector": {}})
    assert peer.pod_selector is not None
    assert peer.namespace_selector is None


def test_union_follows_the_shape() -> None:
    assert decode(LabSpec, {"nodes": 2})[0].nodes == 2
    assert decode(LabSpec, {"nodes": [{"name": "a"}]})[0].nodes == (LabNode(name="a"),)
    check, _ = decode(Check, {"metadata": {"name": "a"}, "spec": {"from": {"podSelector": {}}, "to": "svc/web"}})
    assert isinstance(check.spec.from_, CheckPeer)
    assert check.spec.to == "svc/web"


@pytest.mark.parametrize(
    ("cls", "data", "expected"),
    [
        pytest.param(ServicePort, {}, [("port", "Required value")], id="missing"),
        pytest.param(ServicePort, {"port": None}, [("port", "Required value")], id="null-is-missing"),
        pytest.param(ServicePort, [], [("", "Invalid value: []: must be a mapping")], id="not-a-mapping"),
        pytest.param(ServicePort, {"port": "80"}, [("port", 'Invalid value: "80": must be an integer')], id="text"),
        pytest.param(ServicePort, {"port": True}, [("port", "Invalid value: true: must be an integer")], id="bool"),
        pytest.param(ServicePort, {"port": 1.5}, [("port", "Invalid value: 1.5: must be an integer")], id="float"),
        pytest.param(
            ServicePort,
            {"port": 1, "protocol": "tcp"},
            [("protocol", 'Unsupported value: "tcp": supported values: "TCP", "UDP", "SCTP"')],
            id="word",
        ),
        pytest.param(
            ServicePort, {"port": 1, "protocol": 6}, [("protocol", "Invalid value: 6: must be a string")], id="number"
        ),
        pytest.param(
            ServicePort,
            {"port": 1, "targetPort": [1]},
            [("targetPort", "Invalid value: [1]: must be an integer or a string")],
            id="neither",
        ),
        pytest.param(
            ServicePort, {"prot": 80}, [("prot", "unknown field; did you mean port?")], id="misspelt-is-not-missing-too"
        ),
        pytest.param(ServicePort, {"port": 1, "qqq": 1}, [("qqq", "unknown field")], id="no-suggestion"),
        pytest.param(
            ServicePort,
            {"port": 1, "targetport": 1},
            [("targetport", "unknown field; did you mean targetPort?")],
            id="case",
        ),
        pytest.param(
            Pod,
            {"metadata": {"labels": {"a.b/c": 1}}, "spec": {"containers": [{"name": "a", "ports": [{}, "x"]}]}},
            [
                ("metadata.labels[a.b/c]", "Invalid value: 1: must be a string"),
                ("spec.containers[0].ports[0].containerPort", "Required value"),
                ("spec.containers[0].ports[1]", 'Invalid value: "x": must be a mapping'),
            ],
            id="all-at-once",
        ),
    ],
)
def test_wrongs(cls: type, data: Any, expected: list[tuple[str, str]]) -> None:
    assert wrongs(cls, data) == expected


def test_ignored_fields_are_dropped_and_others_are_not() -> None:
    spec = {"containers": [{"name": "a", "env": [{"name": "X"}], "resources": {}}], "volumes": [], "volums": []}
    assert wrongs(Pod, {"metadata": {}, "spec": spec}) == [("spec.volums", "unknown field; did you mean volumes?")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("a", '"a"', id="text"),
        pytest.param('a"b', '"a\\"b"', id="quote"),
        pytest.param("a\nb\x1b", '"a\\nb\\x1b"', id="control"),
        pytest.param("a" * 200, '"' + "a" * 75 + '..."', id="long"),
        pytest.param(True, "true", id="bool"),
        pytest.param(None, "null", id="null"),
        pytest.param([1, "a"], '[1, "a"]', id="list"),
        pytest.param({"a": 1}, "a mapping", id="mapping"),
    ],
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param((), "", id="root"),
        pytest.param(("spec", "ports", 1, "name"), "spec.ports[1].name", id="index"),
        pytest.param(
            ("metadata", "labels", "app.kubernetes.io/name"), "metadata.labels[app.kubernetes.io/name]", id="key"
        ),
    ],
)
def test_dotted(path: Path, text: str) -> None:
    assert dotted(path) == text
