"""Workloads become pods: what the controllers of kube-controller-manager would create, with stable names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from k8snetlab.cluster.model import ADDON_LABEL, Node, Pod, Workload
from k8snetlab.cluster.node_fit import daemon_fits
from k8snetlab.cluster.podnames import MAX_BASE_LENGTH, generated, template_hash
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.scale_down import survivors
from k8snetlab.errors import Problem, Source
from k8snetlab.manifests.api import apps, core
from k8snetlab.manifests.api.meta import Labels, LabelSelector, ObjectMeta
from k8snetlab.manifests.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeed:
    """A pod before it has a node. `order` places it among all pods; `subject` is who is to blame for its spec.

    `node` is set when the pod can only run there: spec.nodeName, or a DaemonSet's pod.
    """

    namespace: str
    name: str
    labels: Labels
    annotations: Labels
    spec: core.PodSpec
    subject: str
    source: Source
    order: tuple[str, str, str, int]
    owner: str = ""
    node: str = ""
    phase: str = "Running"
    terminating: bool = False

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


_WORKLOADS = (apps.Deployment, apps.ReplicaSet, apps.StatefulSet, apps.DaemonSet, apps.Job, apps.CronJob)


@dataclass(slots=True)
class _Expansion:
    """What has been made so far. `names` are the pod names in use, by namespace, so that no suffix collides; `before`
    are the pods of the cluster that was, by namespace and owner."""

    nodes: Sequence[Node]
    problems: list[Problem]
    seeds: list[PodSeed] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    names: dict[str, set[str]] = field(default_factory=dict)
    before: defaultdict[tuple[str, str], list[Pod]] = field(default_factory=lambda: defaultdict(list))

    def taken(self, namespace: str) -> set[str]:
        return self.names.setdefault(namespace, set())

    def add(self, seeds: Iterable[PodSeed]) -> None:
        self.seeds.extend(seeds)


def expand(
    documents: Iterable[Document], nodes: Sequence[Node], previous: Iterable[Pod], problems: list[Problem]
) -> tuple[list[PodSeed], tuple[Workload, ...]]:
    """Every pod there must be, in the order in which they are scheduled, and every workload, by namespace and name.

    Pods with names of their own (bare ones, StatefulSets') are named first; two of the same name are a problem. A
    ReplicaSet keeps its pods of the `previous` cluster, and when they are too many those it would not delete.
    """
    expansion = _Expansion(nodes, problems)
    for pod in previous:
        expansion.before[pod.namespace, pod.owner].append(pod)
    ordered = sorted(documents, key=lambda document: (_has_fixed_names(document), document.key))
    for document in ordered:
        _expand_document(expansion, _with_name(expansion, document))
    expansion.workloads.sort(key=lambda workload: (workload.namespace, workload.name, workload.kind))
    # The lab's add-ons come last: where the user's pods go and what addresses they get does not depend on them.
    expansion.seeds.sort(key=lambda seed: (ADDON_LABEL in seed.labels, seed.order))
    return expansion.seeds, tuple(expansion.workloads)


def _has_fixed_names(document: Document) -> int:
    written = document.object
    return 0 if isinstance(written, apps.StatefulSet | core.Pod) and written.metadata.name else 1


def _with_name(expansion: _Expansion, document: Document) -> Document:
    """A workload with generateName gets a name as pods do; the same one each time."""
    written = document.object
    metadata = written.metadata
    if metadata.name or not metadata.generate_name or not isinstance(written, _WORKLOADS):
        return document
    names = expansion.names.setdefault(f"{type(written).__name__} {metadata.namespace}", set())
    name = generated(metadata.generate_name, metadata.namespace, metadata.generate_name, taken=names)
    return replace(document, object=replace(written, metadata=replace(metadata, name=name)))


def _expand_document(expansion: _Expansion, document: Document) -> None:
    match document.object:
        case core.Pod() as pod:
            expansion.add(_bare_pod(expansion, pod, document.source))
        case apps.Deployment() as deployment:
            _note(expansion, deployment, deployment.spec.replicas, document.source)
            replica_set = _replica_set_of(deployment)
            subject = _subject(deployment)
            expansion.add(_replica_set_pods(expansion, replica_set, subject, document.source))
        case apps.ReplicaSet() as replica_set:
            expansion.add(_replica_set_pods(expansion, replica_set, _subject(replica_set), document.source))
        case apps.StatefulSet() as stateful_set:
            expansion.add(_stateful_set_pods(expansion, stateful_set, document.source))
        case apps.DaemonSet() as daemon_set:
            expansion.add(_daemon_set_pods(expansion, daemon_set, document.source))
        case apps.Job() as job:
            expansion.add(_job_pods(expansion, job, document.source))
        case apps.CronJob() as cron_job:
            _note(expansion, cron_job, 0, document.source)  # a CronJob is not run
        case _:
            return


def _subject(
    written: core.Pod | apps.Deployment | apps.ReplicaSet | apps.StatefulSet | apps.DaemonSet | apps.Job,
) -> str:
    metadata = written.metadata
    return f"{type(written).__name__} {metadata.namespace}/{metadata.name or metadata.generate_name}"


def _note(
    expansion: _Expansion,
    spec: apps.Deployment | apps.ReplicaSet | apps.StatefulSet | apps.DaemonSet | apps.Job | apps.CronJob,
    replicas: int,
    source: Source,
) -> None:
    kind, metadata = type(spec).__name__, spec.metadata
    expansion.workloads.append(
        Workload(
            kind=kind,
            namespace=metadata.namespace,
            name=metadata.name,
            replicas=replicas,
            spec=spec,
            source=source,
        )
    )


def _bare_pod(expansion: _Expansion, pod: core.Pod, source: Source) -> Iterator[PodSeed]:
    metadata = pod.metadata
    taken = expansion.taken(metadata.namespace)
    name = metadata.name or generated(metadata.generate_name, metadata.namespace, metadata.generate_name, taken=taken)
    if metadata.name in taken:
        expansion.problems.append(problem(source, _subject(pod), "metadata.name", "a pod of this name already exists"))
        return
    taken.add(name)
    yield PodSeed(
        namespace=metadata.namespace,
        name=name,
        labels=metadata.labels,
        annotations=metadata.annotations,
        spec=pod.spec,
        subject=_subject(pod),
        source=source,
        order=(metadata.namespace, name, "", 0),
        node=pod.spec.node_name,
        phase=pod.status.phase,
        terminating=metadata.deletion_timestamp is not None,
    )


def _replica_set_of(deployment: apps.Deployment) -> apps.ReplicaSet:
    """The ReplicaSet the Deployment controller makes: another template is another hash, so other pods (a rollout)."""
    metadata, spec = deployment.metadata, deployment.spec
    label = {"pod-template-hash": template_hash(spec.template)}
    template_metadata = replace(spec.template.metadata, labels={**spec.template.metadata.labels, **label})
    return apps.ReplicaSet(
        metadata=ObjectMeta(
            name=f"{metadata.name}-{label['pod-template-hash']}",
            namespace=metadata.namespace,
            labels=template_metadata.labels,
            annotations={"deployment.kubernetes.io/desired-replicas": str(spec.replicas)},
        ),
        spec=apps.ReplicaSetSpec(
            replicas=spec.replicas,
            selector=LabelSelector(
                match_labels={**spec.selector.match_labels, **label},
                match_expressions=spec.selector.match_expressions,
            ),
            template=replace(spec.template, metadata=template_metadata),
        ),
    )


def _replica_set_pods(
    expansion: _Expansion, replica_set: apps.ReplicaSet, subject: str, source: Source
) -> Iterator[PodSeed]:
    _note(expansion, replica_set, replica_set.spec.replicas, source)
    metadata, template = replica_set.metadata, replica_set.spec.template
    taken = expansion.taken(metadata.namespace)
    owner, wanted = f"ReplicaSet/{metadata.name}", replica_set.spec.replicas
    make = _from_template(template, metadata, owner, subject, source)
    kept = survivors(expansion.before.get((metadata.namespace, owner), ()), wanted)
    names = {pod.ordinal: pod.name for pod in kept if pod.name not in taken}
    taken.update(names.values())
    free = (ordinal for ordinal in count() if ordinal not in names)
    while len(names) < wanted:
        ordinal = next(free)
        names[ordinal] = generated(f"{metadata.name}-", metadata.namespace, metadata.name, str(ordinal), taken=taken)
    for ordinal in sorted(names):
        yield make(names[ordinal], ordinal, template.metadata.labels, template.spec)


def _stateful_set_pods(expansion: _Expansion, written: apps.StatefulSet, source: Source) -> Iterator[PodSeed]:
    """Ordinals from spec.ordinals.start; the ordinal is in the name, the hostname and two labels."""
    _note(expansion, written, written.spec.replicas, source)
    metadata, template = written.metadata, written.spec.template
    taken = expansion.taken(metadata.namespace)
    revision = {"controller-revision-hash": f"{metadata.name}-{template_hash(template)}"}
    make = _from_template(template, metadata, f"StatefulSet/{metadata.name}", _subject(written), source)
    start = written.spec.ordinals.start
    for ordinal in range(start, start + written.spec.replicas):
        name = f"{metadata.name}-{ordinal}"
        if name in taken:
            message = f"its pod {name} already exists"
            expansion.problems.append(problem(source, _subject(written), "metadata.name", message))
            continue
        taken.add(name)
        labels = {
            **template.metadata.labels,
            **revision,
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(ordinal),
        }
        yield make(name, ordinal, labels, replace(template.spec, hostname=name, subdomain=written.spec.service_name))


def _daemon_set_pods(expansion: _Expansion, written: apps.DaemonSet, source: Source) -> Iterator[PodSeed]:
    metadata, template = written.metadata, written.spec.template
    eligible = [node for node in expansion.nodes if daemon_fits(template.spec, node)]
    _note(expansion, written, len(eligible), source)
    taken = expansion.taken(metadata.namespace)
    labels = {**template.metadata.labels, "controller-revision-hash": template_hash(template)}
    make = _from_template(template, metadata, f"DaemonSet/{metadata.name}", _subject(written), source)
    for node in eligible:
        name = generated(f"{metadata.name}-", metadata.namespace, metadata.name, node.name, taken=taken)
        yield make(name, node.index, labels, template.spec, node.name)


def _job_pods(expansion: _Expansion, job: apps.Job, source: Source) -> Iterator[PodSeed]:
    """The pods of a Job that run at the same time; they never finish in a lab, so the next ones never come."""
    metadata, spec = job.metadata, job.spec
    wanted = spec.parallelism if spec.completions is None else min(spec.parallelism, spec.completions)
    wanted = 0 if spec.suspend else wanted
    _note(expansion, job, wanted, source)
    taken = expansion.taken(metadata.namespace)
    labels = {
        **spec.template.metadata.labels,
        "batch.kubernetes.io/job-name": metadata.name,
        "job-name": metadata.name,
    }
    make = _from_template(spec.template, metadata, f"Job/{metadata.name}", _subject(job), source)
    for index in range(wanted):
        if spec.completion_mode != "Indexed":
            name = generated(f"{metadata.name}-", metadata.namespace, metadata.name, str(index), taken=taken)
            yield make(name, index, labels, spec.template.spec)
            continue
        # An indexed Job's pods carry their index in name, hostname and label (batch/v1, completionMode).
        middle = f"-{index}-"
        base = metadata.name[: MAX_BASE_LENGTH - len(middle)] + middle
        name = generated(base, metadata.namespace, metadata.name, str(index), taken=taken)
        indexed = {**labels, "batch.kubernetes.io/job-completion-index": str(index)}
        pod_spec = replace(spec.template.spec, hostname=f"{metadata.name}-{index}"[:63])
        yield make(name, index, indexed, pod_spec)


def _from_template(
    template: core.PodTemplateSpec, owner: ObjectMeta, owner_name: str, subject: str, source: Source
) -> Callable[..., PodSeed]:
    """A function that stamps out one pod of a workload: (name, ordinal, labels, spec, node)."""
    namespace, kind = owner.namespace, owner_name.partition("/")[0]
    annotations = template.metadata.annotations

    def make(name: str, ordinal: int, labels: Labels, spec: core.PodSpec, node: str = "") -> PodSeed:
        return PodSeed(
            namespace=namespace,
            name=name,
            labels=labels,
            annotations=annotations,
            spec=spec,
            subject=subject,
            source=source,
            order=(namespace, owner.name, kind, ordinal),
            owner=owner_name,
            node=node or spec.node_name,
        )

    return make
