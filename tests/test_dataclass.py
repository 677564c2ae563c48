"""Classes whose methods are written late behave as the standard library's, from the first call on."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from k8snetlab.dataclass import dataclass as late_dataclass

Make = Callable[[], Any]


def make(decorator: Any) -> Any:
    """A class as they are in manifests.api, made anew each time: nothing of it has been called yet."""

    @decorator(frozen=True, slots=True, kw_only=True)
    class Port:
        number: int
        name: str = ""
        labels: dict[str, str] = dataclasses.field(default_factory=dict, metadata={"key": "theLabels"})
        source: str = dataclasses.field(default="", compare=False, repr=False)

    return Port


@pytest.fixture
def late() -> Any:
    return make(late_dataclass)


USES: dict[str, Callable[[Any], Any]] = {
    "repr": lambda cls: repr(cls(number=1, labels={"a": "b"})),
    "equal": lambda cls: (cls(number=1) == cls(number=1), cls(number=1) == cls(number=2), cls(number=1) == 1),
    "not compared": lambda cls: cls(number=1, source="x") == cls(number=1),
    "replace": lambda cls: repr(dataclasses.replace(cls(number=1), name="web")),
    "fields": lambda cls: [(each.name, each.kw_only, dict(each.metadata)) for each in dataclasses.fields(cls)],
    "asdict": lambda cls: dataclasses.asdict(cls(number=1)),
    "slots": lambda cls: (cls.__slots__, hasattr(cls(number=1), "__dict__")),
    "fresh defaults": lambda cls: cls(number=1).labels is cls(number=2).labels,
}  # fmt: skip


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_as_the_standard_one(use: Callable[[Any], Any], late: Any) -> None:
    assert use(late) == use(make(dataclasses.dataclass))


def test_hash_is_of_what_is_compared() -> None:
    @late_dataclass(frozen=True, slots=True)
    class Place:
        node: str
        port: int = 80

    assert {Place("a"), Place("a", 80), Place("b")} == {Place("a"), Place("b")}
    match Place("a"):
        case Place(node, port):
            assert (node, port) == ("a", 80)


@pytest.mark.parametrize(
    "misuse",
    [
        pytest.param(lambda value: setattr(value, "number", 2), id="set"),
        pytest.param(lambda value: setattr(value, "other", 2), id="add"),
        pytest.param(lambda value: delattr(value, "number"), id="delete"),
    ],
)
def test_frozen(misuse: Callable[[Any], None], late: Any) -> None:
    value = late(number=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        misuse(value)
    assert value.number == 1


@pytest.mark.parametrize("arguments", [{}, {"number": 1, "nmber": 2}], ids=["missing", "unknown"])
def test_wrong_arguments(arguments: dict[str, int], late: Any) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        late(**arguments)


def test_unpickled_before_anything_else_was_called() -> None:
    """As the record of a lab is read: no value has been made by calling its class."""
    from k8snetlab.plan.state import Netns, Sysctl

    data = pickle.dumps([Netns("pod"), Sysctl("pod", "net.ipv4.ip_forward", "1")])
    script = """
import pickle, sys
netns, sysctl = pickle.loads(sys.stdin.buffer.read())
print(netns, {netns: 1}[type(netns)("pod")], sysctl.key, netns == sysctl)
"""
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert done.stdout.decode() == "Netns(name='pod', up=True) 1 net.ipv4.ip_forward False\n"
