"""The JSON that scripts rely on, to the key and in its order (design, section 5)."""

from __future__ import annotations

import json
from ipaddress import ip_address

from k8snetlab.flows.model import Check, Flow, Place, Result
from k8snetlab.flows.verdict import judge
from k8snetlab.report.json import check_json, check_list_json, probe_json

FLOW = Flow(
    sender=Place(kind="pod", name="shop/api", netns="shop_api"),
    destination=Place(kind="service", name="shop/db"),
    address="10.96.0.50",
    protocol="TCP",
    port=5432,
)
CHECK = Check(
    type="pod-to-clusterip",
    name="shop/api to shop/db:5432",
    flow=FLOW,
    source="pod",
    sources=(ip_address("10.244.0.2"),),
    servers=("shop/db-0",),
)
ANSWERED = Result(outcome="ok", rtt_ms=0.42, server="shop/db-0", source="10.244.0.2")


def test_check() -> None:
    silent = Result(outcome="timeout", reason="no answer")
    found = check_json("shop", [judge(CHECK, ANSWERED), judge(CHECK, silent)])
    assert json.loads(json.dumps(found)) == {
        "lab": "shop",
        "passed": 1,
        "failed": 1,
        "skipped": 0,
        "checks": [
            {
                "type": "pod-to-clusterip",
                "name": "shop/api to shop/db:5432",
                "from": "pod/shop/api",
                "to": "svc/shop/db",
                "protocol": "TCP",
                "port": 5432,
                "expected": "ok",
                "observed": "ok",
                "source": "10.244.0.2",
                "passed": True,
                "reason": "",
            },
            {
                "type": "pod-to-clusterip",
                "name": "shop/api to shop/db:5432",
                "from": "pod/shop/api",
                "to": "svc/shop/db",
                "protocol": "TCP",
                "port": 5432,
                "expected": "ok",
                "observed": "timeout",
                "source": "",
                "passed": False,
                "reason": "expected ok, got timeout: no answer",
            },
        ],
    }


def test_nothing_checked() -> None:
    assert check_json("shop", []) == {"lab": "shop", "passed": 0, "failed": 0, "skipped": 0, "checks": []}


def test_check_list() -> None:
    assert check_list_json("shop", [CHECK]) == {
        "lab": "shop",
        "checks": [
            {
                "type": "pod-to-clusterip",
                "name": "shop/api to shop/db:5432",
                "from": "pod/shop/api",
                "to": "svc/shop/db",
                "protocol": "TCP",
                "port": 5432,
                "expected": "ok",
            }
        ],
    }


def test_probe() -> None:
    found = probe_json(FLOW, [ANSWERED, Result(outcome="error", reason="curl is not installed")])
    assert json.loads(json.dumps(found)) == {
        "from": "pod/shop/api",
        "to": "svc/shop/db",
        "protocol": "TCP",
        "port": 5432,
        "results": [
            {"outcome": "ok", "rtt_ms": 0.42, "server": "shop/db-0", "source": "10.244.0.2", "reason": ""},
            {"outcome": "error", "rtt_ms": None, "server": "", "source": "", "reason": "curl is not installed"},
        ],
    }
