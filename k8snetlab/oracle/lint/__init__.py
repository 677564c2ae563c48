"""What is probably not meant in policies: each finding with file and line, and with a witness where there is one.

Nothing here is an error. Kubernetes takes all of it and says nothing, which is why it is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from k8snetlab.cluster.model import Cluster
from k8snetlab.oracle.lint import admin, dash, dns, networks, ports, selectors
from k8snetlab.oracle.lint.subject import Subject, read_subjects
from k8snetlab.oracle.policy_rules import read_policies

MOST = 10  # findings of one sort that are told one by one

# The gravest first: what allows more than was meant, then what denies more, then what does nothing.
_SORTS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    dash.either_or_both,
    selectors.matches_everybody,
    networks.covers_pods,
    selectors.isolates_ingress_too,
    ports.one_protocol_only,
    networks.never_seen,
    selectors.ignored_rules,
    selectors.selects_nobody,
    selectors.matches_nobody,
)


def lint(cluster: Cluster) -> tuple[str, ...]:
    """One line a finding, sort by sort; of many of one sort only the first are told, and how many more there are."""
    if not cluster.network_policies and not cluster.admin_policies:
        return ()
    subjects = read_subjects(cluster)
    policies = read_policies(cluster)
    found = [text for sort in _SORTS for text in _shortened([each for s in subjects for each in sort(s)])]
    found += _shortened(list(dns.no_names(cluster, policies, subjects)))
    found += _shortened(list(admin.same_priority(policies)))
    found += _shortened(list(admin.domain_names(cluster)))
    return tuple(found)


def _shortened(found: list[str]) -> list[str]:
    if len(found) <= MOST:
        return found
    return [*found[:MOST], f"… and {len(found) - MOST} more like these"]
