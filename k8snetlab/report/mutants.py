"""Mutants and their fate, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from k8snetlab.flows.trial import Fate, Trial
from k8snetlab.report.table import table

_COLOURS: Mapping[Fate, str] = {"killed": "green", "survived": "red", "equivalent": "", "error": "red"}


def mutants_table(trials: Sequence[Trial], *, wide: bool = False, colour: bool = False) -> str:
    """One line a mutant; without `wide` only those that nobody noticed, if there are any."""
    shown = [trial for trial in trials if wide or trial.fate in ("survived", "error")] or trials
    rows = [
        (
            trial.fate,
            trial.policy,
            trial.part,
            trial.change,
            str(trial.source or "-"),
            f"by {trial.by}" if trial.by else f"not checked: {trial.witness}" if trial.witness else "",
        )
        for trial in shown
    ]
    styles = {0: [_COLOURS[trial.fate] for trial in shown]} if colour else None
    return table(("FATE", "POLICY", "PART", "CHANGE", "SOURCE", ""), rows, styles)


def mutants_totals(trials: Sequence[Trial]) -> str:
    if not trials:
        return "no policy to change"
    fates = Counter(trial.fate for trial in trials)
    counts = ", ".join(f"{fates[fate]} {fate}" for fate in _COLOURS if fates[fate])
    tried = [trial.milliseconds for trial in trials if trial.milliseconds]
    each = f"; {median(tried):.0f} ms to apply one" if tried else ""
    return f"{len(trials)} mutants: {counts}{each}"


def mutants_json(lab: str, trials: Sequence[Trial]) -> dict[str, object]:
    fates = Counter(trial.fate for trial in trials)
    return {
        "lab": lab,
        **{fate: fates[fate] for fate in _COLOURS},
        "mutants": [
            {
                "policy": trial.policy,
                "part": trial.part,
                "change": trial.change,
                "source": str(trial.source) if trial.source else None,
                "fate": trial.fate,
                "by": trial.by or None,
                "witness": trial.witness or None,
                "milliseconds": round(trial.milliseconds, 1),
            }
            for trial in trials
        ],
    }
