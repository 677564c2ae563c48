from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.yaml import MAX_NODES, Fault, YAMLDocument, read_documents


def only(text: str) -> YAMLDocument:
    (document,) = read_documents(text.encode())
    assert isinstance(document, YAMLDocument)
    return document


@pytest.mark.parametrize(
    ("text", "data"),
    [
        pytest.param("a: 1\nb: [x, 'y', \"1\"]\n", {"a": 1, "b": ["x", "y", "1"]}, id="quotes-make-strings"),
        pytest.param('{"a": {"b": null}, "c": "\\u00e9"}', {"a": {"b": None}, "c": "é"}, id="json"),
        pytest.param("8080: x\ntrue: y\n", {"8080": "x", "true": "y"}, id="keys-are-strings"),
        pytest.param(
            "a: !!str 80\nb: 080\nc: !!int '80'\nd: !Ref x\n", {"a": "80", "b": 80, "c": 80, "d": "x"}, id="tags"
        ),
        pytest.param(
            "a: |\n  x: 1\n  # no comment\nb: >-\n  c\n  d\n", {"a": "x: 1\n# no comment\n", "b": "c d"}, id="blocks"
        ),
        pytest.param("a: &x {b: 1}\nc: *x\n", {"a": {"b": 1}, "c": {"b": 1}}, id="alias"),
        pytest.param("a: &x 80\nc: *x\n", {"a": 80, "c": 80}, id="alias-of-scalar"),
        pytest.param(
            "x: &x {a: 1, b: 1}\ny: {<<: *x, b: 2}\n", {"x": {"a": 1, "b": 1}, "y": {"b": 2, "a": 1}}, id="merge"
        ),
        pytest.param(
            "- &x {a: 1}\n- &y {a: 2, b: 2}\n- {<<: [*x, *y], c: 3}\n",
            [{"a": 1}, {"a": 2, "b": 2}, {"c": 3, "a": 1, "b": 2}],
            id="merge-of-several",
        ),
        pytest.param("a: '<<'\n'<<': 1\n", {"a": "<<", "<<": 1}, id="quoted-merge-is-a-key"),
        pytest.param("host: '*.example.com'\n", {"host": "*.example.com"}, id="asterisk-is-not-an-alias"),
        pytest.param("a:\n- b\n-\n", {"a": ["b", None]}, id="null-item"),
        pytest.param("a: {}\nb: []\nc: ''\n", {"a": {}, "b": [], "c": ""}, id="empties"),
    ],
)
def test_data(text: str, data: Any) -> None:
    assert only(text).data == data


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param((), 2, id="document"),
        pytest.param(("a",), 2, id="key"),
        pytest.param(("a", "b"), 3, id="nested-key"),
        pytest.param(("a", "b", 1), 5, id="item"),
        pytest.param(("a", "b", 1, "y"), 6, id="key-in-item"),
        pytest.param(("a", "b", 9), 3, id="missing-item"),
        pytest.param(("a", "zzz", "q"), 2, id="missing-key"),
        pytest.param(("c", "m"), 8, id="merged-key"),
        pytest.param(("c", "n"), 10, id="own-key-beside-a-merge"),
        pytest.param(("8080",), 11, id="number-as-key"),
        pytest.param(("d", "m"), 8, id="through-an-alias"),
    ],
)
def test_lines(path: Path, line: int) -> None:
    text = "# 1\na:\n  b:\n  - x: 1\n  - x: 2\n    y: 3\nx: &m\n  m: 1\nc: {<<: *m,\n    n: 2}\n8080: 1\nd: *m\n"
    assert only(text).line_of(path) == line


def test_lines_count_through_documents() -> None:
    documents = list(read_documents(b"a: 1\n---\n\nb: 2\n---\nc: [\n--- # x\nd: 4\n"))
    lines = [item.line if isinstance(item, Fault) else item.line_of(()) for item in documents]
    assert lines == [1, 4, 7, 8]


def test_an_aliased_bomb_is_counted_and_not_expanded() -> None:
    text = "x0: &x0 [a,a,a,a,a,a,a,a,a,a]\n" + "".join(
        f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 60)
    )
    (fault,) = read_documents(text.encode())
    assert isinstance(fault, Fault)
    assert fault.message == f"aliases expand to more than {MAX_NODES:,} values"


def test_aliases_of_a_very_long_text_share_it() -> None:
    text = "a: &x " + "y" * 1_000_000 + "\nb: [" + ", ".join(["*x"] * 1000) + "]\n"
    (fault,) = read_documents(text.encode())  # 1 GB if each were written out
    assert isinstance(fault, Fault)
    assert fault.line == 2


def test_many_small_aliases_are_fine() -> None:
    text = "a: &x {b: c}\nd: [" + ", ".join(["*x"] * 10_000) + "]\n"
    assert len(only(text).data["d"]) == 10_000


def test_all_duplicate_keys_are_reported() -> None:
    document = only("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert [(fault.line, fault.message) for fault in document.faults] == [
        (2, "key 'c' is already set on line 2"),
        (3, "key 'a' is already set on line 1"),
    ]
    assert document.data == {"a": 1, "b": {"c": 1}}
