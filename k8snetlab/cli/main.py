"""The `k8snetlab` command: the list of subcommands, and the one place where errors become text and exit codes.

Exit codes: 0 as expected, 1 a check failed or drift was found, 2 wrong usage or an invalid manifest, 3 the host lacks
something or the lab could not be built, 4 nothing was tested, 130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import sys

import click

from k8snetlab import __version__
from k8snetlab.cli.output import fail
from k8snetlab.errors import LabError

# In the order of a first session with the tool. Modules are imported only when their command runs.
COMMANDS = {
    "up": ("up", "Build the lab, or change a running one, to equal the files."),
    "check": ("check", "Prove each type of communication with real packets."),
    "status": ("status", "Show this lab's objects and its drift from the plan."),
    "get": ("get", "Show Kubernetes objects with their status."),
    "probe": ("probe", "Send one flow, now."),
    "dns-trace": ("dns_trace", "Show every question a pod's resolver sends for a name."),
    "explain": ("explain", "Say why policies allow or deny a flow, and send it."),
    "matrix": ("matrix", "Try all pairs of pods against the policies."),
    "coverage": ("coverage", "Count what each rule of the policies has let through."),
    "mutate": ("mutate", "Change the policies one by one: do the checks notice?"),
    "exec": ("exec", "Run a command in a pod, a node or an external host."),
    "shell": ("shell", "Open a shell in a pod, a node or an external host."),
    "apply": ("change", "Add or change objects of a running lab."),
    "delete": ("change", "Take objects out of a running lab."),
    "scale": ("change", "Set the number of pods of a workload."),
    "label": ("change", "Set or remove labels of an object."),
    "set-ready": ("change", "Say that a pod is ready, or not."),
    "node": ("node", "Cut a node off from the others, and bring it back."),
    "compare": ("compare", "Show which flows end differently under kube-proxy's modes, and why."),
    "plan": ("plan", "Print the kernel objects the files need; needs no root."),
    "list": ("labs", "List the labs that run."),
    "down": ("down", "Remove labs without a trace."),
    "test": ("test", "For each scenario: up, check, down."),
    "doctor": ("doctor", "Say what this host can and cannot do."),
    "completion": ("completion", "Print the shell completion script."),
}


class Commands(click.Group):
    """Loads a subcommand's module when it is asked for, so that `--help` reads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"k8snetlab.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.command(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "K8SNETLAB",
        "max_content_width": 100,
    },
    epilog="Example: k8snetlab up -f shop.yaml && k8snetlab check && k8snetlab down",
)
@click.version_option(__version__, prog_name="k8snetlab")
def k8snetlab() -> None:
    """Turn Kubernetes YAML into a real network of Linux namespaces, and prove it with packets."""


def main() -> None:
    """Entry point: run the command line, show what went wrong, exit with the code of the contract."""
    # Nearly all that a command makes lives until it ends, and the collector walks it again and again: of the user time
    # of an `up` of 1,000 pods 5 %, with Python's own 700.
    gc.set_threshold(100_000)
    try:
        code = k8snetlab.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except LabError as error:
        fail(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
