"""Each file of `bad_manifests` gives exactly the messages beside it, and nothing is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8snetlab.errors import ManifestError
from k8snetlab.manifests.load import load

FOLDER = Path(__file__).parents[1] / "bad_manifests"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_there_are_cases() -> None:
    assert len(CASES) >= 60
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_messages(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ManifestError) as caught:
        load([f"{case}.yaml"])
    assert [str(problem) for problem in caught.value.problems] == Path(f"{case}.txt").read_text().splitlines()
    assert caught.value.exit_code == 2
