"""What needs no lab: help, wrong usage, wrong manifests, `plan`, and where each word is printed."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from k8snetlab.cli.main import COMMANDS

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SHOP = str(SCENARIOS / "shop")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_that_parses(run: Any, command: str) -> None:
    done = run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    [example] = re.findall(r"^  Example: (.+)$", done.stdout, re.MULTILINE)
    words = re.search(r"k8snetlab (\S+)(.*)", example)
    assert words is not None
    assert words[1] in COMMANDS
    assert not command or words[1] == command
    # Every option of the example is one of the command's.
    options = set(re.findall(r"(?<=\s)--?[a-z][-a-z]*", words[2].partition(" -- ")[0].partition("&&")[0]))
    assert all(re.search(rf"(?<![-\w]){option}\b", run(words[1], "--help").stdout) for option in options)


def test_help_lists_every_command_with_its_summary(run: Any) -> None:
    listed = re.findall(r"^  (\S+)  +\S", run("--help").stdout, re.MULTILINE)
    assert set(COMMANDS) <= set(listed)


def test_help_imports_no_command() -> None:
    show = (
        "import sys; sys.argv[1:] = ['--help']\nfrom k8snetlab.cli.main import main\n"
        "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    heavy = {"pyroute2", "iptc", "yaml", "rich", "asyncio", "k8snetlab.kernel", "k8snetlab.lab", "k8snetlab.cluster"}
    assert not modules & heavy


@pytest.mark.parametrize("command", ["plan", "list"])
def test_cheap_commands_talk_to_no_kernel(command: str) -> None:
    words = [command, *(["-f", SHOP] if command == "plan" else [])]
    show = f"import sys; sys.argv[1:] = {words}\nfrom k8snetlab.cli.main import main\n"
    show += "try: main()\nfinally: print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split("\n")) & {"pyroute2", "iptc", "rich", "asyncio", "logging", "unittest"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param((), "Usage: ", id="no command"),
        pytest.param(("nonsense",), "No such command 'nonsense'", id="no such command"),
        pytest.param(("plan",), "Missing option '-f'", id="no file"),
        pytest.param(("plan", "--nodes", "0", "-f", SHOP), "Invalid value for '--nodes'", id="option out of range"),
        pytest.param(("plan", "-o", "xml", "-f", SHOP), "Invalid value for '-o'", id="output"),
        pytest.param(("plan", "-f", "/nowhere"), "/nowhere:1: No such file or directory", id="no such file"),
        pytest.param(("get", "secrets"), 'no resource type "secrets"', id="no such kind"),
        pytest.param(("get", "pods"), "lab default does not run", id="no lab"),
        pytest.param(("status", "--lab", "other"), "lab other does not run", id="another lab"),
        pytest.param(("check",), "hint: start it with: k8snetlab up -f FILE", id="no lab to check"),
        pytest.param(("probe", "a", "b"), "lab default does not run", id="no lab to probe"),
        pytest.param(("exec", "a", "--", "true"), "lab default does not run", id="no lab to run in"),
        pytest.param(("scale", "deploy/web", "--replicas", "2"), "lab default does not run", id="no lab to scale"),
        pytest.param(("apply", "-f", SHOP), "lab default does not run", id="no lab to apply to"),
        pytest.param(("status", "--lab", "../x"), "'../x' cannot be the name of a lab", id="a lab's name"),
        pytest.param(("delete",), "delete wants either -f FILE or KIND NAME", id="delete nothing"),
        pytest.param(("delete", "pod"), "want KIND NAME or KIND/NAME", id="delete a kind"),
        pytest.param(("label", "pod/a"), "at least one KEY=VALUE or KEY-", id="no label"),
        pytest.param(("label", "pod/a", "x"), "x: want KEY=VALUE or KEY-", id="no value"),
        pytest.param(("label", "pod/a", "x=a b"), "a b", id="not a label's value"),
        pytest.param(("set-ready", "a", "perhaps"), "Invalid value for 'READY'", id="neither true nor false"),
        pytest.param(("test", "/nowhere"), "no such scenario: /nowhere", id="no scenario"),
        pytest.param(("test", SHOP, "--shard", "3/2"), "--shard 3/2: want I/N", id="shard"),
        pytest.param(
            ("test", SHOP, "--junit", "/nowhere/x.xml"), "--junit /nowhere/x.xml: no such directory", id="junit"
        ),
        pytest.param(("completion", "tcsh"), "Invalid value for", id="shell"),
    ],
)
def test_wrong_usage_is_2_and_said_on_stderr(run: Any, words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


BAD = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports: [{protcol: TCP, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: Web}
spec: {containers: []}
"""


@pytest.mark.parametrize("command", ["plan", "up", "test"])
def test_every_problem_of_the_manifests_is_said(run: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    done = run(command, *(["-f"] if command != "test" else []), str(file))
    assert done.returncode == (3 if command == "test" else 2)
    assert done.stdout == ""
    assert f"{file}:6: Service default/web: spec.ports[0].protcol: unknown field; did you mean protocol?" in done.stderr
    assert f"{file}:10: Pod default/Web: metadata.name" in done.stderr
    assert not list(tmp_path.glob("run/*"))


def test_plan_needs_no_root_and_changes_nothing(run: Any, nobody: tuple[str, ...], tmp_path: Path) -> None:
    as_root, as_nobody = run("plan", "-f", SHOP), run("plan", "-f", SHOP, prefix=nobody)
    assert as_nobody.returncode == 0
    assert as_nobody.stdout == as_root.stdout != ""
    assert not (tmp_path / "run").exists()


def test_plan_json_is_one_document(run: Any) -> None:
    done = run("plan", "-f", SHOP, "-o", "json", "--lab", "mine")
    found = json.loads(done.stdout)
    assert set(found) == {"lab", "objects"}
    assert found["lab"] == "mine"
    assert f"{len(found['objects'])} kernel objects" in done.stderr


def test_plan_of_stdin_and_of_the_environments_lab(run: Any) -> None:
    done = run("plan", "-f", "-", stdin="{apiVersion: v1, kind: Namespace, metadata: {name: x}}", K8SNETLAB_LAB="env")
    assert done.returncode == 0
    assert done.stderr.startswith("lab env: 3 nodes, 0 pods, 0 services")


def test_plan_shell_is_a_script(run: Any) -> None:
    done = run("plan", "-f", SHOP, "-o", "shell")
    assert done.stdout.startswith("#!")
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_error(run: Any, tmp_path: Path) -> None:
    script = f"set -o pipefail; {sys.executable} -m k8snetlab plan -f {SHOP} 2>{tmp_path}/said | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_a_full_disk_is_said(run: Any) -> None:
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-m", "k8snetlab", "plan", "-f", SHOP]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert done.stderr == "error: cannot write to stdout: No space left on device\n"


def on_a_terminal(argv: list[str], **environment: str) -> str:
    """What a command prints when stdout and stderr are a terminal."""
    own, its = pty.openpty()
    try:
        variables = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        variables |= {"TERM": "xterm", **environment}
        with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env=variables, text=True) as process:
            os.close(its)
            printed = b""
            while data := _read(own):
                printed += data
            process.wait(60)
    finally:
        os.close(own)
    return printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the last one who had the terminal open has ended
        return b""


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        pytest.param({}, True, id="terminal"),
        pytest.param({"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param({"NO_COLOR": ""}, True, id="NO_COLOR set to nothing"),
        pytest.param({"TERM": "dumb"}, False, id="dumb terminal"),
    ],
)
def test_colour_only_where_it_is_wanted(environment: dict[str, str], coloured: bool) -> None:
    printed = on_a_terminal([sys.executable, "-m", "k8snetlab", "plan", "-f", "/nowhere"], **environment)
    assert ("\033[31merror:" in printed) is coloured
    assert ("\033" in printed) is coloured


def test_no_colour_in_a_pipe(run: Any) -> None:
    done = run("plan", "-f", "/nowhere")
    assert "\033" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Any, shell: str) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_K8SNETLAB_COMPLETE" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "number", "offered"),
    [
        pytest.param("k8snetlab sc", 1, "scale", id="command"),
        pytest.param("k8snetlab plan --pro", 2, "--proxy-mode", id="option"),
        pytest.param("k8snetlab plan --backend v", 3, "vxlan", id="choice"),
    ],
)
def test_completes(words: str, number: int, offered: str) -> None:
    entry = str(Path(sys.executable).with_name("k8snetlab"))
    environment = os.environ | {"_K8SNETLAB_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    done = subprocess.run([entry], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert f"plain,{offered}" in done.stdout.splitlines()


def test_version(run: Any) -> None:
    assert re.fullmatch(r"k8snetlab, version \d+\.\d+\S*\n", run("--version").stdout)


def test_list_without_labs(run: Any) -> None:
    done = run("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no lab runs on this host\n")
    assert json.loads(run("list", "-o", "json").stdout) == []


def test_down_of_a_lab_that_does_not_run_is_no_error(run: Any) -> None:
    done = run("down", "nobody-has-this-name")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "lab nobody-has-this-name does not run\n"
