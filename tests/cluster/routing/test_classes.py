"""Which Ingresses and Gateways are served, and which of two objects is the older."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from k8snetlab.cluster.remarks import remarks
from k8snetlab.cluster.resolve import resolve
from k8snetlab.cluster.status import render
from k8snetlab.manifests.load import load_text

DEFAULT = "{ingressclass.kubernetes.io/is-default-class: 'true'}"


def ingress(cls: str = "", annotation: str = "") -> str:
    spec = f"ingressClassName: {cls}, " if cls else ""
    metadata = f", annotations: {{kubernetes.io/ingress.class: {annotation}}}" if annotation else ""
    return (
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n"
        f"metadata: {{name: i{metadata}}}\n"
        f"spec: {{{spec}defaultBackend: {{service: {{name: a, port: {{number: 80}}}}}}}}\n"
    )


def ingress_class(name: str, annotations: str = "{}") -> str:
    return (
        "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\n"
        f"metadata: {{name: {name}, annotations: {annotations}}}\nspec: {{controller: example.com/c}}\n"
    )


@pytest.mark.parametrize(
    ("text", "cls", "served"),
    [
        pytest.param(ingress(), "", True, id="no class anywhere: the lab's"),
        pytest.param(ingress("nginx"), "nginx", True, id="a class that an installation brings"),
        pytest.param(ingress("nobodys"), "nobodys", False, id="a class that nobody has"),
        pytest.param(ingress("mine") + ingress_class("mine"), "mine", True, id="a class of the manifests"),
        pytest.param(ingress() + ingress_class("mine"), "", False, id="no class, and none is the default"),
        pytest.param(ingress() + ingress_class("mine", DEFAULT), "mine", True, id="the default class"),
        pytest.param(
            ingress() + ingress_class("z", DEFAULT) + ingress_class("m", DEFAULT), "m", True, id="two defaults as old"
        ),
        pytest.param(ingress(annotation="nginx"), "", True, id="the annotation"),
        pytest.param(ingress(annotation="nobodys"), "", False, id="the annotation of nobody's class"),
    ],
)
def test_ingress_classes(world: Any, ask: Any, text: str, cls: str, served: bool) -> None:
    cluster = world(text)
    assert ask(cluster, "http://x.com/").services == ({"default/a"} if served else set())
    (found,) = render(cluster, "ingresses")
    assert bool(found["status"]["loadBalancer"]) is served
    if cls:
        assert found["spec"]["ingressClassName"] == cls
    assert any("NOT served" in each for each in remarks(cluster)) is not served


def test_of_two_defaults_the_newer_one_counts() -> None:
    first = load_text((ingress_class("a", DEFAULT) + ingress()).encode(), "t.yaml")
    both = load_text((ingress_class("a", DEFAULT) + ingress_class("b", DEFAULT) + ingress()).encode(), "t.yaml")
    (found,) = render(resolve(both, previous=resolve(first)), "ingresses")
    assert found["spec"]["ingressClassName"] == "b"


def test_what_was_there_before_wins_over_a_name_that_comes_first() -> None:
    def route(name: str, backend: str) -> str:
        return dedent(f"""\
            ---
            apiVersion: networking.k8s.io/v1
            kind: Ingress
            metadata: {{name: {name}}}
            spec:
              rules: [{{host: x.com, http: {{paths: [{{path: /, pathType: Prefix,
                backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}]}}}}]
            """)

    old = resolve(load_text(route("z", "old").encode(), "t.yaml"))
    new = resolve(load_text((route("a", "new") + route("z", "old")).encode(), "t.yaml"), previous=old)
    assert new.creation_order["Ingress default/z"] < new.creation_order["Ingress default/a"]
    again = resolve(load_text((route("a", "new") + route("z", "old")).encode(), "t.yaml"), previous=new)
    assert again.creation_order == new.creation_order


def test_nothing_runs_without_an_ingress_or_gateway_to_serve(world: Any) -> None:
    assert not [pod for pod in world("").pods if pod.addon == "gateway"]
    assert not [pod for pod in world(ingress("nobodys")).pods if pod.addon == "gateway"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(ingress("nginx"), "IngressClass nginx is not in the manifests", id="an assumed class"),
        pytest.param(
            ingress().replace("name: i}", "name: i, annotations: {nginx.ingress.kubernetes.io/enable-cors: 'true'}}"),
            "annotations ignored: nginx.ingress.kubernetes.io/enable-cors",
            id="an annotation",
        ),
        pytest.param(
            ingress().replace("name: a,", "name: gone,"), "503: there is no Service default/gone", id="backend"
        ),
        pytest.param(
            ingress().replace("spec: {", "spec: {tls: [{hosts: [x.com], secretName: s}], "),
            "made by the lab, as these Secrets are not in the manifests: default/s",
            id="a Secret",
        ),
    ],
)
def test_remarks(world: Any, text: str, said: str) -> None:
    assert any(said in each for each in remarks(world(text))), remarks(world(text))
