from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from k8snetlab.errors import ManifestError, Source
from k8snetlab.manifests.api.core import Namespace, Pod, Service
from k8snetlab.manifests.load import load, load_text

REAL = Path(__file__).parent / "real"
SERVICE = b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"


def problems(text: bytes | str) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ManifestError) as caught:
        load_text(data, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


# --- Manifests as people write them -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        pytest.param("guestbook.yaml", {"Namespace": 1, "Service": 2, "Deployment": 2}, id="guestbook"),
        pytest.param(
            "bookinfo.yaml",
            {"Service": 1, "Deployment": 1, "Gateway": 1, "HTTPRoute": 1, "ReferenceGrant": 1, "GatewayClass": 1},
            id="bookinfo",
        ),
        pytest.param("boutique.yaml", {"Deployment": 2, "Service": 2}, id="boutique"),
        pytest.param(
            "wordpress.yml", {"Service": 1, "StatefulSet": 1, "IngressClass": 1, "Ingress": 1}, id="wordpress"
        ),
        pytest.param(
            "platform.yaml",
            {"Node": 1, "DaemonSet": 1, "CronJob": 1, "Job": 1, "NetworkPolicy": 1, "Endpoints": 1, "EndpointSlice": 1},
            id="platform",
        ),
        pytest.param("live-list.json", {"Pod": 1, "Service": 1}, id="kubectl-get-output"),
    ],
)
def test_real_manifests_load_as_they_are(name: str, kinds: dict[str, int]) -> None:
    assert Counter(document.kind for document in load([str(REAL / name)]).documents) == kinds


def test_other_kinds_are_counted() -> None:
    assert load([str(REAL / "bookinfo.yaml")]).ignored == {
        "ServiceAccount": 1,
        "Gateway.networking.istio.io": 1,
        "VirtualService": 1,
    }


def test_fields_arrive() -> None:
    (service,) = load([str(REAL / "live-list.json")]).documents[1:]
    assert isinstance(service.object, Service)
    spec = service.object.spec
    assert (spec.type, spec.cluster_ip, spec.ports[0].node_port) == ("LoadBalancer", "10.96.12.34", 31234)
    assert spec.session_affinity_config is not None
    assert spec.session_affinity_config.client_ip is not None
    assert spec.session_affinity_config.client_ip.timeout_seconds == 10800
    assert service.object.status.load_balancer.ingress[0].ip == "172.18.255.1"


# --- Where manifests come from ----------------------------------------------------------------------------------------


def test_directory_is_searched_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z.json", "a.yml", "c.yaml", "b/.hidden.yaml", "notes.txt"):
        text = f'{{"apiVersion": "v1", "kind": "Namespace", "metadata": {{"name": "n{len(name)}"}}}}'
        (tmp_path / name).write_text(text if name != "notes.txt" else "not: {yaml")
    files = [document.source.file for document in load([str(tmp_path)]).documents]
    assert files == [str(tmp_path / name) for name in ("a.yml", "b/z.json", "c.yaml")]


def test_file_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(SERVICE)
    assert len(load([str(tmp_path / "a.yaml"), str(tmp_path)]).documents) == 1


def test_standard_input() -> None:
    (document,) = load(["-"], io.BytesIO(SERVICE)).documents
    assert document.source == Source("-", 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.parent, "No such file or directory", id="missing"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "No such file or directory", id="broken-link"),
        pytest.param(lambda path: path.mkdir(), "no *.yaml, *.yml or *.json file in this directory", id="empty-folder"),
    ],
)
def test_unreadable_paths(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    make(tmp_path / "x")
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path / "x")])
    assert str(caught.value) == f"{tmp_path}/x:1: {message}"


def test_problems_of_all_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("kind: Pod\n")
    (tmp_path / "a.yaml").write_bytes(SERVICE + b"---\n" + SERVICE.replace(b"80", b"0").replace(b"web", b"api"))
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path / "b.yaml"), str(tmp_path / "a.yaml"), str(tmp_path / "gone.yaml")])
    places = [(Path(problem.source.file).name, problem.source.line) for problem in caught.value.problems]
    assert places == [("a.yaml", 9), ("b.yaml", 1), ("gone.yaml", 1)]


def test_duplicate_across_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_bytes(SERVICE)
    with pytest.raises(ManifestError, match=r"b\.yaml:3: Service default/web: .*already defined at .*a\.yaml:1"):
        load([str(tmp_path)])


# --- Oddities that are fine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xef\xbb\xbf", id="only-bom"),
        pytest.param(b"# nothing\n\n", id="only-comments"),
        pytest.param(b"---\n---\n# a\n---\n...\n", id="only-markers"),
        pytest.param(b"---\nnull\n---\n~\n", id="null-documents"),
        pytest.param(b"apiVersion: v1\nkind: List\nitems: []\n", id="empty-list"),
        pytest.param(b"apiVersion: v1\nkind: List\nitems:\n", id="null-list"),
    ],
)
def test_no_documents(text: bytes) -> None:
    assert load_text(text, "x").documents == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(SERVICE, 1, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + SERVICE, 1, id="bom"),
        pytest.param(SERVICE.replace(b"\n", b"\r\n"), 1, id="crlf"),
        pytest.param(b"# a\r\n---\r\n" + SERVICE.replace(b"\n", b"\r\n"), 3, id="crlf-marker"),
        pytest.param(b"%YAML 1.1\n---\n" + SERVICE, 3, id="directive"),
        pytest.param(b"--- # web\n" + SERVICE + b"...\n", 2, id="markers-with-comment"),
        pytest.param(b"---\n\n# comment\n" + SERVICE, 4, id="comment-first"),
        pytest.param(SERVICE.replace(b"metadata", b"status: null\nmetadata"), 1, id="null-field"),
        pytest.param(SERVICE.rstrip(b"\n"), 1, id="no-newline-at-end"),
    ],
)
def test_one_service(text: bytes, line: int) -> None:
    (document,) = load_text(text, "x").documents
    assert document.key == ("Service", "default", "web")
    assert document.source == Source("x", line)


def test_marker_within_a_block_scalar_is_text_when_indented() -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |\n    ---\n    a: b\n---\n" + SERVICE
    manifests = load_text(text, "x")
    assert (len(manifests.documents), manifests.ignored) == (1, {"ConfigMap": 1})


def test_namespace_is_filled_in() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: {}}}\nspec: {{containers: [{{name: a}}]}}\n---\n"
    found = load_text((text.format("shop") + text.format("null")).encode(), "x")
    assert [document.key for document in found.documents] == [("Pod", "shop", "a"), ("Pod", "default", "a")]


def test_cluster_scoped_kinds_have_no_namespace() -> None:
    (document,) = load_text(b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n", "x").documents
    assert isinstance(document.object, Namespace)
    assert document.object.metadata.namespace == ""


def test_generated_names_are_not_duplicates() -> None:
    text = b"apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: [{name: a}]}\n---\n"
    documents = load_text(text * 2, "x").documents
    assert [isinstance(document.object, Pod) for document in documents] == [True, True]


def test_lists_are_unpacked_with_their_lines() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- apiVersion: v1\n  kind: NamespaceList\n  items:\n  - metadata: {name: a}\n  - metadata: {name: b}\n"
        "- apiVersion: v1\n  kind: Namespace\n  metadata: {name: c}\n"
    )
    documents = load_text(text.encode(), "x").documents
    assert [(document.key[2], document.source.line) for document in documents] == [("a", 7), ("b", 8), ("c", 9)]


def test_custom_kind_that_only_sounds_like_a_list() -> None:
    text = b"apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: a}\n"
    assert load_text(text, "x").ignored == {"AllowList": 1}


def test_merged_and_aliased_fields() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: &labels {app: web, tier: front}}
spec:
  selector: {<<: *labels, tier: back}
  ports: [{port: 80}]
"""
    (document,) = load_text(text.encode(), "x").documents
    assert isinstance(document.object, Service)
    assert document.object.spec.selector == {"app": "web", "tier": "back"}


# --- What must be refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../etc/passwd",
            "..",
            ".",
            "/etc",
            "a/b",
            "a;reboot",
            "$(id)",
            "`id`",
            "a b",
            "a\nb",
            "a\tb",
            "a\0b"[:1] + ";",
        ),
        *(
            "-rf",
            "--all",
            "a'b",
            'a"b',
            "a|b",
            "a&b",
            "a>b",
            "*",
            "a*",
            "~",
            "!",
            "#",
            "%s",
            "{}",
            "\\",
            "A",
            "a_b",
            "ä",
        ),
        *("a-", "-a", "a..b", "a" * 254, "\u202ea", "a\u200bb", "a\n", "0x1g;"),
    ],
)
@pytest.mark.parametrize("field", ["name", "namespace"])
def test_hostile_names_are_refused(name: str, field: str) -> None:
    metadata = {"name": "ok", field: name}
    written = ", ".join(f"{key}: {_quoted(value)}" for key, value in metadata.items())
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{{written}}}\nspec: {{containers: [{{name: a}}]}}\n"
    found = problems(text)
    assert any(f": metadata.{field}: Invalid value: " in problem for problem in found)
    assert all(problem.isprintable() for problem in found)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def test_the_message_names_everything() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports:
  - port: 80
    name: http
  - port: 81
    name: admin
    protcol: TCP
"""
    expected = "x.yaml:11: Service shop/web: spec.ports[1].protcol: unknown field; did you mean protocol?"
    assert problems(text) == [expected]


# --- Size -------------------------------------------------------------------------------------------------------------


def _many(number: int) -> bytes:
    deployment = (
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web-{0}}}\nspec:\n  selector: {{matchLabels: "
        "{{app: web-{0}}}}}\n  template:\n    metadata: {{labels: {{app: web-{0}}}}}\n    spec:\n      containers:\n"
        "      - {{name: web, image: nginx, ports: [{{containerPort: 80}}]}}\n"
    )
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web-{0}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    return "".join((service + deployment).format(i) for i in range(number // 2)).encode()


def _calls(text: bytes) -> int:
    """How many functions are called to load a text: a measure of work that does not depend on the machine."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        load_text(text, "x")
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_linearly() -> None:
    _calls(_many(10))  # imports, and decoders that are made once
    assert _calls(_many(800)) <= 2.05 * _calls(_many(400))


def test_ten_thousand_documents() -> None:
    documents = load_text(_many(10_000), "x").documents
    assert len(documents) == 10_000
    assert documents[-1].key == ("Deployment", "default", "web-4999")


def test_ten_thousand_problems_are_all_reported() -> None:
    found = problems(_many(2000).replace(b"port: 80}", b"prt: 80}").replace(b"image:", b"imag:"))
    assert len(found) == 2000
