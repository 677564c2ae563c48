"""The record: a round trip, and every way in which it is not to be trusted."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster, Endpoint, LabConfig, Service, ServicePort
from k8snetlab.errors import LabError, Source
from k8snetlab.lab import pack, store
from k8snetlab.lab.store import Record
from k8snetlab.manifests.api import core
from k8snetlab.manifests.api.meta import ObjectMeta
from k8snetlab.manifests.document import Document, Manifests
from k8snetlab.plan.state import Address, Netns, Plan, Route

CONFIG = LabConfig(
    name="x",
    network="bridge",
    backend="host-gw",
    proxy_mode="iptables",
    iptables_backend="nft",
    nftables_layout="kube-proxy",
    policy_engine="iptables",
    ipvs_scheduler="rr",
    families=(4, 6),
    pod_subnets=(IPv4Network("10.244.0.0/16"), IPv6Network("fd00:10:244::/56")),
    service_subnets=(IPv4Network("10.96.0.0/12"),),
    node_subnets=(IPv4Network("172.18.0.0/16"),),
    node_cidr_mask_sizes=(24,),
    node_port_range=(30000, 32767),
    cluster_domain="cluster.local",
    mtu=0,
    fabric_mtu=0,
    masquerade_all=False,
    reserved=(),
    node_port_addresses=(),
    load_balancer_pools=(IPv4Network("172.18.255.0/24"),),
    load_balancer_mode="l2",
)
SERVICE = Service(
    namespace="shop",
    name="web",
    labels={"app": "web"},
    spec=core.ServiceSpec(),
    cluster_ips=(IPv4Address("10.96.0.1"), IPv6Address("fd00::1")),
    ports=(
        ServicePort(
            name="",
            protocol="TCP",
            port=80,
            target_port="http",
            node_port=0,
            endpoints=(Endpoint(ip=IPv4Address("10.244.0.2"), port=80, node="node1", pod="shop/web-0"),),
        ),
    ),
)
RECORD = Record(
    manifests=Manifests((Document(core.Namespace(metadata=ObjectMeta(name="shop")), Source("a.yaml", 1)),)),
    cluster=Cluster(config=CONFIG, nodes=(), namespaces={"shop": {}}, pods=(), services=(SERVICE,), workloads=()),
    plan=Plan(
        (
            Netns("node1"),
            Address("node1", "eth0", IPv4Interface("172.18.0.2/16")),
            Address("node1", "eth0", IPv6Interface("fd00::2/64")),
            Route("node1", IPv4Network("0.0.0.0/0"), via=IPv4Address("172.18.0.1")),
        )
    ),
    overrides={"nodes": 3},
    readiness={"shop/web-0": False},
)


def test_round_trip(tmp_path: Path) -> None:
    store.save(tmp_path, RECORD)
    assert store.load(tmp_path) == RECORD
    assert store.load_cluster(tmp_path) == RECORD.cluster
    assert store.load_plan(tmp_path) == (RECORD.plan, False)
    assert [path.name for path in tmp_path.iterdir()] == ["record"]
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600


def test_mark(tmp_path: Path) -> None:
    store.save(tmp_path, RECORD)
    store.mark(tmp_path, clean=True)
    assert store.load(tmp_path) == replace(RECORD, clean=True)
    store.mark(tmp_path, clean=False)
    assert store.load(tmp_path) == RECORD


def test_none_yet(tmp_path: Path) -> None:
    assert store.load(tmp_path) is None
    assert store.load_cluster(tmp_path) is None
    assert store.load_plan(tmp_path) is None


def test_an_interrupted_write_leaves_the_old_record(tmp_path: Path) -> None:
    store.save(tmp_path, RECORD)
    (tmp_path / "record.new").write_bytes(b"half")
    assert store.load(tmp_path) == RECORD
    store.save(tmp_path, replace(RECORD, overrides={}))
    assert store.load(tmp_path) == replace(RECORD, overrides={})


@pytest.mark.parametrize("length", [0, 10, 95, 96, 200, -1])
def test_truncated(tmp_path: Path, length: int) -> None:
    store.save(tmp_path, RECORD)
    whole = (tmp_path / "record").read_bytes()
    (tmp_path / "record").write_bytes(whole[:length])
    with pytest.raises(LabError, match="damaged"):
        store.load(tmp_path)


def test_another_version(tmp_path: Path) -> None:
    store.save(tmp_path, replace(RECORD, version="0.0.9"))
    with pytest.raises(LabError, match=r"made by k8snetlab 0\.0\.9"):
        store.load(tmp_path)


@pytest.mark.root
def test_a_foreign_owner(tmp_path: Path) -> None:
    store.save(tmp_path, RECORD)
    os.chown(tmp_path / "record", 12345, -1)
    with pytest.raises(LabError, match="user 12345"):
        store.load(tmp_path)


def test_writable_by_others(tmp_path: Path) -> None:
    store.save(tmp_path, RECORD)
    (tmp_path / "record").chmod(0o666)
    with pytest.raises(LabError, match="others may write"):
        store.load(tmp_path)


def test_names_nothing_that_acts() -> None:
    for hostile in (pickle.dumps(os.system), pickle.dumps(print), pickle.dumps(pack.parse)):
        with pytest.raises(ValueError, match="it names"):
            pack.parse(hostile)


def test_addresses_are_numbers() -> None:
    values = (
        IPv4Address("10.0.0.1"),
        IPv6Address("::1"),
        IPv4Network("10.0.0.0/8"),
        IPv6Network("fd00::/8"),
        IPv4Interface("10.0.0.1/8"),
        IPv6Interface("fd00::1/64"),
    )
    data = pack.dump(values)
    assert pack.parse(data) == values
    assert b"10.0.0" not in data
