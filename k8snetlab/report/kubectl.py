"""`get` as kubectl prints it: the columns of each kind. Source: kubernetes/pkg/printers/internalversion/printers.go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from k8snetlab.report.table import table as columns

Object = Mapping[str, Any]
Cells = Callable[[Object], list[str]]

NONE = "<none>"


def table(
    kind: str,
    objects: Sequence[Object],
    *,
    age_seconds: int,
    wide: bool = False,
    all_namespaces: bool = False,
    show_labels: bool = False,
) -> str:
    """Objects of one kind (plural, lower case). The lab's age stands for each object's: it keeps no birthdays."""
    header, cells, wide_header, wide_cells = _COLUMNS[kind]
    age = human_age(age_seconds)
    titles = [*(["NAMESPACE"] if all_namespaces and kind not in CLUSTER_SCOPED else []), "NAME", *header, "AGE"]
    titles += [*(wide_header if wide else []), *(["LABELS"] if show_labels else [])]
    rows = []
    for item in objects:
        metadata = item["metadata"]
        row = [metadata.get("namespace", "")] if all_namespaces and kind not in CLUSTER_SCOPED else []
        row += [metadata["name"], *cells(item), age, *(wide_cells(item) if wide else [])]
        rows.append(row + ([_pairs(metadata.get("labels"))] if show_labels else []))
    return columns(titles, rows)


def names(kind: str, objects: Sequence[Object]) -> list[str]:
    """`-o name`: kind, with its group where it has one, and name."""
    group = GROUPS.get(kind, "")
    singular = SINGULAR[kind]
    return [f"{singular}{'.' + group if group else ''}/{item['metadata']['name']}" for item in objects]


def human_age(seconds: int) -> str:
    """As kubectl shortens it: 45s, 3m20s, 25m, 5h10m, 30h, 3d4h, 9d (apimachinery/pkg/util/duration)."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def _pairs(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _selector(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector, or the plain labels of a Service (apimachinery, FormatLabelSelector): sorted by key."""
    selector = selector or {}
    if not {"matchLabels", "matchExpressions"} & selector.keys():
        return _pairs(selector)
    parts = [(key, f"{key}={value}") for key, value in selector.get("matchLabels", {}).items()]
    parts += [(each["key"], _requirement(each)) for each in selector.get("matchExpressions", ())]
    return ",".join(text for _, text in sorted(parts)) or NONE


def _requirement(expression: Object) -> str:
    key, values = expression["key"], ",".join(sorted(expression.get("values", ())))
    match expression["operator"]:
        case "Exists":
            return str(key)
        case "DoesNotExist":
            return f"!{key}"
        case operator:
            return f"{key} {operator.lower()} ({values})"


def _containers(template: Object) -> list[Object]:
    return list(template.get("spec", {}).get("containers", ()))


def _pod(item: Object) -> list[str]:
    total = len(_containers(item))
    conditions = {each["type"]: each["status"] for each in item["status"].get("conditions", ())}
    ready = total if conditions.get("Ready") == "True" else 0
    status = item["status"].get("reason") or item["status"].get("phase", "")
    return [f"{ready}/{total}", "Completed" if status == "Succeeded" else status, "0"]


def _pod_wide(item: Object) -> list[str]:
    status = item["status"]
    gates = [each["conditionType"] for each in item["spec"].get("readinessGates", ())]
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    open_gates = sum(conditions.get(gate) == "True" for gate in gates)
    return [
        status.get("podIP", NONE),
        item["spec"].get("nodeName", NONE),
        NONE,
        f"{open_gates}/{len(gates)}" if gates else NONE,
    ]


def _service(item: Object) -> list[str]:
    spec = item["spec"]
    kind = spec.get("type", "ClusterIP")
    cluster_ip = NONE if kind == "ExternalName" else spec.get("clusterIP", "None")
    return [kind, cluster_ip, _external_ip(item, kind), _service_ports(spec.get("ports", ()))]


def _external_ip(item: Object, kind: str) -> str:
    spec = item["spec"]
    if kind == "ExternalName":
        return str(spec.get("externalName", NONE))
    ingress = item.get("status", {}).get("loadBalancer", {}).get("ingress", ()) if kind == "LoadBalancer" else ()
    addresses = [each.get("ip") or each.get("hostname", "") for each in ingress] + list(spec.get("externalIPs", ()))
    return ",".join(addresses) or ("<pending>" if kind == "LoadBalancer" else NONE)


def _service_ports(ports: Sequence[Object]) -> str:
    def one(port: Object) -> str:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"

    return ",".join(one(port) for port in ports) or NONE


def _endpoints(item: Object) -> list[str]:
    found: list[str] = []
    for subset in item.get("subsets", ()):
        addresses = [address["ip"] for address in subset.get("addresses", ())]
        if not subset.get("ports"):  # a headless Service may have none
            found += addresses
        for port in subset.get("ports", ()):
            found += [f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses]
    return [_shortened(found)]


def _endpoint_slice(item: Object) -> list[str]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in item.get("ports") or ()]
    addresses = [address for endpoint in item.get("endpoints") or () for address in endpoint["addresses"]]
    return [item["addressType"], _shortened(ports, "<unset>"), _shortened(addresses, "<unset>")]


def _shortened(found: Sequence[str], none: str = NONE) -> str:
    """kubectl shows three and counts the rest."""
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return (",".join(found[:3]) or none) + more


def _node(item: Object) -> list[str]:
    conditions = {each["type"]: each["status"] for each in item["status"].get("conditions", ())}
    status = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    if item.get("spec", {}).get("unschedulable"):
        status += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = [key[len(prefix) :] for key in sorted(item["metadata"].get("labels", {})) if key.startswith(prefix)]
    return [status, ",".join(roles) or NONE]


def _node_wide(item: Object) -> list[str]:
    internal = [each["address"] for each in item["status"].get("addresses", ()) if each["type"] == "InternalIP"]
    return [",".join(internal) or NONE, ",".join(item["spec"].get("podCIDRs", ())) or NONE]


def _deployment(item: Object) -> list[str]:
    status = item["status"]
    replicas = item["spec"].get("replicas", 1)
    return [
        f"{status.get('readyReplicas', 0)}/{replicas}",
        str(status.get("updatedReplicas", 0)),
        str(status.get("availableReplicas", 0)),
    ]


def _replica_set(item: Object) -> list[str]:
    status = item["status"]
    counts = (item["spec"].get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0))
    return [str(count) for count in counts]


def _stateful_set(item: Object) -> list[str]:
    return [f"{item['status'].get('readyReplicas', 0)}/{item['spec'].get('replicas', 1)}"]


def _daemon_set(item: Object) -> list[str]:
    status = item["status"]
    keys = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    )  # fmt: skip
    selector = item["spec"]["template"].get("spec", {}).get("nodeSelector")
    return [*(str(status.get(key, 0)) for key in keys), _pairs(selector)]


def _job(item: Object) -> list[str]:
    """DURATION is empty: nobody has written down when a job began (status.startTime)."""
    status, spec = item["status"], item["spec"]
    done, parallel = status.get("succeeded", 0), spec.get("parallelism", 1)
    completions = spec.get("completions") or (f"1 of {parallel}" if parallel > 1 else 1)
    state = "Suspended" if spec.get("suspend") else "Running" if status.get("active") else "Complete"
    return [state, f"{done}/{completions}", ""]


def _cron_job(item: Object) -> list[str]:
    return [item["spec"]["schedule"], "not run"]


def _template_wide(item: Object) -> list[str]:
    containers = _containers(item["spec"]["template"])
    return [
        ",".join(each["name"] for each in containers) or NONE,
        ",".join(each.get("image", "") for each in containers) or NONE,
        _selector(item["spec"].get("selector")),
    ]


def _policy(item: Object) -> list[str]:
    return [_selector(item.get("spec", {}).get("podSelector"))]


def _ingress(item: Object) -> list[str]:
    spec = item.get("spec", {})
    hosts = [rule["host"] for rule in spec.get("rules", ()) if rule.get("host")]
    ports = "80, 443" if spec.get("tls") else "80"
    addresses = item.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    address = ",".join(each.get("ip", "") or each.get("hostname", "") for each in addresses)
    return [spec.get("ingressClassName") or NONE, _shortened(hosts, "*"), address, ports]


def _gateway(item: Object) -> list[str]:
    status = item.get("status", {})
    address = ",".join(each["value"] for each in status.get("addresses", ()))
    return [item["spec"]["gatewayClassName"], address, _condition(item, "Programmed")]


def _hostnames(item: Object) -> str:
    """A list as JSON: the column is a plain path of the CRD's."""
    names = ",".join(f'"{name}"' for name in item.get("spec", {}).get("hostnames", ()))
    return f"[{names}]" if names else ""


def _condition(item: Object, kind: str) -> str:
    conditions = item.get("status", {}).get("conditions", ())
    return next((each["status"] for each in conditions if each["type"] == kind), "")


def _nothing(_item: Object) -> list[str]:
    return []


_TEMPLATE = ("CONTAINERS", "IMAGES", "SELECTOR")

# Kind → header and cells between NAME and AGE, then those that -o wide adds behind.
_COLUMNS: Mapping[str, tuple[Sequence[str], Cells, Sequence[str], Cells]] = {
    "ipranges": (
        ("POOL", "NODE", "CAPACITY", "USED", "RESERVED", "FREE", "BORROWED"),
        lambda item: [
            item["spec"]["pool"],
            item["spec"]["node"] or NONE,
            *(str(item["status"][key]) for key in ("capacity", "used", "reserved", "free", "borrowed")),
        ],
        (),
        _nothing,
    ),
    "ippools": (
        ("CIDR", "BLOCKS", "NAT", "VXLAN", "DISABLED", "SELECTOR"),
        lambda item: [
            item["spec"]["cidr"],
            f"/{item['spec']['blockSize']}",
            str(item["spec"]["natOutgoing"]).lower(),
            item["spec"]["vxlanMode"],
            str(item["spec"]["disabled"]).lower(),
            item["spec"]["nodeSelector"],
        ],
        (),
        _nothing,
    ),
    "pods": (("READY", "STATUS", "RESTARTS"), _pod, ("IP", "NODE", "NOMINATED NODE", "READINESS GATES"), _pod_wide),
    "services": (
        ("TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"),
        _service,
        ("SELECTOR",),
        lambda item: [_pairs(item["spec"].get("selector"))],
    ),
    "endpoints": (("ENDPOINTS",), _endpoints, (), _nothing),
    "endpointslices": (("ADDRESSTYPE", "PORTS", "ENDPOINTS"), _endpoint_slice, (), _nothing),
    "nodes": (("STATUS", "ROLES"), _node, ("INTERNAL-IP", "POD-CIDR"), _node_wide),
    "namespaces": (("STATUS",), lambda _: ["Active"], (), _nothing),
    "deployments": (("READY", "UP-TO-DATE", "AVAILABLE"), _deployment, _TEMPLATE, _template_wide),
    "replicasets": (("DESIRED", "CURRENT", "READY"), _replica_set, _TEMPLATE, _template_wide),
    "statefulsets": (("READY",), _stateful_set, _TEMPLATE[:2], lambda item: _template_wide(item)[:2]),
    "daemonsets": (
        ("DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR"),
        _daemon_set,
        _TEMPLATE,
        _template_wide,
    ),
    "jobs": (("STATUS", "COMPLETIONS", "DURATION"), _job, _TEMPLATE, _template_wide),
    "cronjobs": (("SCHEDULE", "LAST SCHEDULE"), _cron_job, (), _nothing),
    "networkpolicies": (("POD-SELECTOR",), _policy, (), _nothing),
    "clusternetworkpolicies": (
        ("TIER", "PRIORITY"),
        lambda item: [item["spec"]["tier"], str(item["spec"]["priority"])],
        (),
        _nothing,
    ),
    "adminnetworkpolicies": (("PRIORITY",), lambda item: [str(item["spec"]["priority"])], (), _nothing),
    "baselineadminnetworkpolicies": ((), _nothing, (), _nothing),
    "ingresses": (("CLASS", "HOSTS", "ADDRESS", "PORTS"), _ingress, (), _nothing),
    "ingressclasses": (("CONTROLLER", "PARAMETERS"), lambda item: [item["spec"]["controller"], NONE], (), _nothing),
    "gatewayclasses": (
        ("CONTROLLER", "ACCEPTED"),
        lambda item: [item["spec"]["controllerName"], _condition(item, "Accepted")],
        (),
        _nothing,
    ),
    "gateways": (("CLASS", "ADDRESS", "PROGRAMMED"), _gateway, (), _nothing),
    "httproutes": (("HOSTNAMES",), lambda item: [_hostnames(item)], (), _nothing),
    "referencegrants": ((), _nothing, (), _nothing),
}

ADMIN_POLICIES = ("clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies")
CLUSTER_SCOPED = (
    "nodes", "namespaces", "ipranges", "ippools", "ingressclasses", "gatewayclasses", *ADMIN_POLICIES,
)  # fmt: skip
GROUPS: Mapping[str, str] = {
    "ipranges": "k8snetlab.dev",
    "ippools": "projectcalico.org",
    "endpointslices": "discovery.k8s.io",
    "deployments": "apps",
    "replicasets": "apps",
    "statefulsets": "apps",
    "daemonsets": "apps",
    "jobs": "batch",
    "cronjobs": "batch",
    "networkpolicies": "networking.k8s.io",
    **dict.fromkeys(ADMIN_POLICIES, "policy.networking.k8s.io"),
    "ingresses": "networking.k8s.io",
    "ingressclasses": "networking.k8s.io",
    "gatewayclasses": "gateway.networking.k8s.io",
    "gateways": "gateway.networking.k8s.io",
    "httproutes": "gateway.networking.k8s.io",
    "referencegrants": "gateway.networking.k8s.io",
}
SINGULAR: Mapping[str, str] = {
    "networkpolicies": "networkpolicy",
    "clusternetworkpolicies": "clusternetworkpolicy",
    "adminnetworkpolicies": "adminnetworkpolicy",
    "baselineadminnetworkpolicies": "baselineadminnetworkpolicy",
    "ingresses": "ingress",
    "ingressclasses": "ingressclass",
    "gatewayclasses": "gatewayclass",
    "endpoints": "endpoints",
    **{kind: kind[:-1] for kind in _COLUMNS if not kind.endswith(("ies", "sses")) and kind != "endpoints"},
}
SHORT_NAMES: Mapping[str, str] = {
    "ipam": "ipranges",
    "po": "pods",
    "svc": "services",
    "ep": "endpoints",
    "no": "nodes",
    "ns": "namespaces",
    "deploy": "deployments",
    "rs": "replicasets",
    "sts": "statefulsets",
    "ds": "daemonsets",
    "cj": "cronjobs",
    "netpol": "networkpolicies",
    "cnp": "clusternetworkpolicies",
    "anp": "adminnetworkpolicies",
    "banp": "baselineadminnetworkpolicies",
    "ing": "ingresses",
    "gc": "gatewayclasses",
    "gtw": "gateways",
    "refgrant": "referencegrants",
}


def plural(kind: str) -> str | None:
    """The plural a user means by `po`, `pod`, `Pods` or `deployments.apps`; None when there is no such kind."""
    word = kind.lower().split(".")[0]
    by_singular = {singular: many for many, singular in SINGULAR.items()}
    found = SHORT_NAMES.get(word) or by_singular.get(word) or word
    return found if found in _COLUMNS else None
