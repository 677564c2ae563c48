"""`k8snetlab compare`: the same manifests under several kube-proxy modes, side by side, from real packets."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.inputs import lab_document_name, overrides, read
from k8snetlab.cli.options import files_option, output_option
from k8snetlab.cli.output import data, data_json, say
from k8snetlab.errors import HostError, UsageError

if TYPE_CHECKING:
    from k8snetlab.manifests.document import Manifests
    from k8snetlab.oracle.comparison import Answer, Question
    from k8snetlab.report.comparison import Compared, Variant

MODES = ("iptables", "ipvs", "nftables")


@click.command("compare", epilog="Example: k8snetlab compare -f shop.yaml --proxy-mode iptables,nftables")
@files_option(required=True)
@click.option(
    "--proxy-mode", "modes", default=",".join(MODES), show_default=True, metavar="MODE,…", help="The modes to compare."
)
@click.option("--nodes", type=click.IntRange(1, 250), help="Number of nodes.")
@click.option("--ip-family", type=click.Choice(["ipv4", "ipv6", "dual"]), help="IP family of the cluster.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@output_option("table", "wide", "json")
def compare_command(
    files: Sequence[str], modes: str, timeout: float, output: str, nodes: int | None, ip_family: str | None
) -> int:
    """Show every flow to a Service that ends differently under kube-proxy's modes, and why.

    Each mode is brought up in a lab of its own that is gone afterwards, and sent the same packets. `-o wide` lists the
    flows that end alike, too. Exits 1 when a difference has no documented reason.
    """
    from k8snetlab.report.comparison import comparison_json, comparison_table, divergences_text, totals

    variants, rows = _compare(read(files), _chosen(modes), timeout, nodes=nodes, ip_family=ip_family)
    for variant in variants:
        if variant.missing:
            say(f"{variant.name} cannot run here: {variant.missing}; {variant.fix}")
    if sum(1 for variant in variants if not variant.missing) < 2:
        raise HostError("fewer than two of these modes can run on this host, so there is nothing to compare")
    shown = rows if output == "wide" else [row for row in rows if row.differs]
    if output == "json":
        data_json(comparison_json(variants, rows))
    elif shown:
        data(comparison_table(variants, shown))
        if explained := divergences_text(shown):
            data(f"\n{explained}")
    say(totals(rows))
    if not rows:
        return 4
    return 1 if any(row.differs and row.divergence is None for row in rows) else 0


def _chosen(modes: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(mode.strip() for mode in modes.split(",") if mode.strip()))
    unknown = [mode for mode in chosen if mode not in MODES]
    if unknown:
        raise UsageError(f"--proxy-mode {', '.join(unknown)} cannot be compared", hint=f"the modes: {', '.join(MODES)}")
    if len(chosen) < 2:
        raise UsageError("compare wants at least two modes", hint="--proxy-mode iptables,nftables")
    return chosen


def _compare(
    manifests: Manifests, modes: Sequence[str], timeout: float, **options: object
) -> tuple[list[Variant], list[Compared]]:
    """Each mode after the other, then question by question."""
    from k8snetlab.oracle.comparison import explain
    from k8snetlab.report.comparison import Compared

    variants: list[Variant] = []
    found: list[dict[Question, Answer]] = []
    for mode in modes:
        variant, answers = _run(manifests, mode, timeout, options)
        variants.append(variant)
        found.append(answers)
    rows = []
    for question in next((answers for answers in found if answers), {}):
        each = {variant.name: answers[question] for variant, answers in zip(variants, found, strict=True) if answers}
        differs, divergence = explain(question, each)
        rows.append(Compared(question=question, answers=each, differs=differs, divergence=divergence))
    return variants, rows


def _run(
    manifests: Manifests, mode: str, timeout: float, options: dict[str, object]
) -> tuple[Variant, dict[Question, Answer]]:
    """One variant in a lab of its own, which is gone afterwards whatever happens."""
    from k8snetlab.cli.running import bring_up, require, send_flows
    from k8snetlab.cluster.resolve import resolve
    from k8snetlab.lab.life import down
    from k8snetlab.oracle.comparison import answer, questions
    from k8snetlab.report.comparison import Variant

    name = f"{(lab_document_name(manifests) or 'compare')[:30]}-{mode}-{os.getpid()}"
    wanted = overrides(name=name, proxy_mode=mode, **options)
    config = resolve(manifests, wanted).config
    variant = Variant(name=mode, network=config.network, backend=config.backend, proxy_mode=mode)
    started = time.perf_counter()
    try:
        cluster, _ = bring_up(name, manifests, wanted)
        variant = replace(variant, seconds=round(time.perf_counter() - started, 3))
        asked = questions(cluster)
        flows = [question.flow for question in asked for _ in range(question.tries)]
        say(f"{mode}: up in {variant.seconds:.2f} s, {len(flows)} probes")
        results = iter(send_flows(require(name), flows, timeout))
        return variant, {
            question: answer(cluster, question, [next(results) for _ in range(question.tries)]) for question in asked
        }
    except HostError as error:
        return replace(variant, missing=error.message, fix=error.hint), {}
    finally:
        down(name)
