"""The cases of Kubernetes' own NetworkPolicy suite as packets: both engines, to the pods and through their Services.

Each engine has one lab, and every case is a change of it, as `apply` and `delete` make changes. The tables are those of
`test_upstream_cases`; nothing of the oracle is asked here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k8snetlab.cli.running import bring_up, change
from k8snetlab.cli.sweeping import Matrix, owned
from k8snetlab.cluster.resolve import Overrides
from k8snetlab.flows.matrix import Via
from k8snetlab.lab import life
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.edit import merge
from k8snetlab.manifests.load import load, load_text
from k8snetlab.oracle.matrix import Question

FOLDER = Path(__file__).parent / "netpol"
CASES = sorted(path.stem for path in FOLDER.glob("[0-9]*.yaml"))
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: s-{pod}, namespace: {namespace}}}
spec:
  selector: {{pod: {pod}}}
  ports:
  - {{name: tcp-80, port: 80}}
  - {{name: tcp-81, port: 81}}
  - {{name: udp-80, port: 80, protocol: UDP}}
  - {{name: udp-81, port: 81, protocol: UDP}}
  - {{name: sctp-80, port: 80, protocol: SCTP}}
  - {{name: sctp-81, port: 81, protocol: SCTP}}
"""
Tables = Callable[[str], list[tuple[str, int, frozenset[tuple[str, str]]]]]


def model(engine: str) -> Manifests:
    text = (FOLDER / "model.yaml").read_text().replace("nodes: 2", f"nodes: 2, policyEngine: {engine}")
    services = [SERVICE.format(pod=pod, namespace=namespace) for namespace in "xyz" for pod in "abc"]
    return load_text("\n---\n".join((text, *services)).encode(), "model.yaml")


@pytest.fixture(scope="module", params=["iptables", "nftables"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the engine, whose lab runs; the lab is called after it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("K8SNETLAB_RUN_DIR", str(tmp_path_factory.mktemp("run")))
        name = f"t{os.getpid()}-{request.param}"
        bring_up(name, model(request.param), Overrides())
        yield request.param
        life.down(name)


def send_tables(engine: str, case: str, tables: Tables, protocols: frozenset[str]) -> None:
    name, whole = f"t{os.getpid()}-{engine}", merge(model(engine), load([str(FOLDER / f"{case}.yaml")]))
    change(name, lambda _: whole, {})
    with owned(name) as (lab, record):
        for protocol, port, wanted in tables(case):
            if protocol not in protocols:
                continue
            for via in VIAS:
                asked = Question(protocol=protocol, port=port, via=via)  # type: ignore[arg-type]
                matrix = Matrix(lab, record, asked, timeout=1.0)
                seen = list(zip(matrix.pairs, matrix.send(), strict=True))
                assert len(seen) == 72
                assert [sighting for _, sighting in seen if sighting.outcome == "error"] == []
                blocked = {(pair.sender, pair.receiver) for pair, sighting in seen if sighting.outcome == "blocked"}
                assert blocked == wanted, f"{protocol}/{port} via {via}"
                assert [sighting for _, sighting in seen if sighting.silent] == []  # each block has its evidence


VIAS: tuple[Via, ...] = ("pod", "service")


@pytest.mark.root
@pytest.mark.parametrize("case", CASES)
def test_truth_table(engine: str, case: str, tables: Tables) -> None:
    send_tables(engine, case, tables, frozenset({"TCP", "UDP"}))


@pytest.mark.vm
@pytest.mark.parametrize("case", [case for case in CASES if "# SCTP/" in (FOLDER / f"{case}.yaml").read_text()])
def test_truth_table_of_sctp(engine: str, case: str, tables: Tables) -> None:
    send_tables(engine, case, tables, frozenset({"SCTP"}))
