"""iptables of the kernel's older kind (ip_tables), a table at a time, by libiptc.

libiptc reads a whole table, changes its copy and replaces the kernel's at once: a commit is one table, all or nothing,
whatever was changed in it. Like the `iptables` command it is alone meanwhile, by the lock file that all of them take;
in a lab that is the lab's own.

libiptc and the extensions work in a child of this process, for each family another: an extension registers itself for
the family in use when it is loaded, and never again (libxtables, xtables_register_target); and a fault in one of these
C libraries is an error here, not the end of the lab's command.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netns, processes, syscalls
from k8snetlab.kernel.iptables import find_program, is_built_in, parse_saved
from k8snetlab.plan.state import Family, IptablesChain

_LOCK: Final = Path("/run/xtables.lock")  # XT_LOCK_NAME; the directory exists in every lab
_NAMES: Final[dict[Family, Path]] = {
    4: Path("/proc/thread-self/net/ip_tables_names"),
    6: Path("/proc/thread-self/net/ip6_tables_names"),
}
_PREFIX: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}
_EXTENSIONS: Final = ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "local/lib")
HINT: Final = (
    "install iptables (with libiptc and libxtables) on a kernel with CONFIG_IP_NF_IPTABLES_LEGACY,"
    " or leave out iptablesBackend"
)


def has_tables(family: Family) -> bool:
    """Whether any table exists in the namespace; asking for one would make it."""
    try:
        return bool(_NAMES[family].read_text())
    except FileNotFoundError:  # no such tables in this kernel, or no module loaded yet
        return False


def save_command(family: Family) -> list[str]:
    """Prints every table there is, in the same form as the nf_tables variant. HostError when it is not installed."""
    path = find_program(f"{_PREFIX[family]}-legacy-save")
    if not path:
        raise HostError(f"this host has no {_PREFIX[family]}-legacy-save", hint=HINT)
    return [path]


def save(name: str, family: Family) -> tuple[IptablesChain, ...]:
    """Every chain of a namespace in one family, as far as its tables exist."""
    return parse_saved(name, family, processes.run(save_command(family), name), backend="legacy")


def require() -> None:
    """Raise HostError, with the fix, when libiptc or python-iptables is missing."""
    _iptc()


@dataclass(frozen=True, slots=True)
class Work:
    """What to write and to delete in one namespace, reached by `fd`."""

    netns: str
    fd: int
    write: Sequence[IptablesChain]
    delete: Sequence[IptablesChain] = ()


def restore(family: Family, work: Iterable[Work]) -> None:
    """Write and delete chains, a commit a table. Raises KernelError naming the refused rule, HostError without tables.

    A table that is refused stays as it was, and so do those after it.
    """
    failure = _in_child(lambda: _restore_all(family, work))
    if failure is None:
        return
    kind, *words = failure
    if kind == "HostError":
        raise HostError(words[0], hint=words[1])
    raise KernelError(words[0], netns=words[1], subject=words[2], reason=words[3], hint=words[4])


def _in_child(function: Callable[[], None]) -> tuple[str, ...] | None:
    """Run it in a child; returns the error it ended with, taken apart, None for none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(_failure_of(function)).encode())
            os._exit(0)
        finally:  # a bug: let it be seen
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        return "KernelError", "change iptables", "", "", f"libiptc's process ended with {status}", ""
    failure: list[str] | None = json.loads(told)
    return tuple(failure) if failure else None


def _failure_of(function: Callable[[], None]) -> tuple[str, ...] | None:
    try:
        function()
    except HostError as error:
        return "HostError", error.message, error.hint
    except KernelError as error:
        return "KernelError", error.operation, error.netns, error.subject, error.reason, error.hint
    return None


def _restore_all(family: Family, work: Iterable[Work]) -> None:
    with _locked():
        for item in work:
            by_table: defaultdict[str, tuple[list[IptablesChain], list[IptablesChain]]]
            by_table = defaultdict(lambda: ([], []))
            for place, chains in enumerate((item.write, item.delete)):
                for chain in chains:
                    by_table[chain.table][place].append(chain)
            netns.enter(item.fd)
            _restore_tables(item.netns, family, by_table)


def _restore_tables(
    name: str, family: Family, by_table: Mapping[str, tuple[list[IptablesChain], list[IptablesChain]]]
) -> None:
    """Fill the copies of all tables before the first is committed: most faults are found in time for that."""
    iptc = _iptc()
    with ExitStack() as stack:
        handles = {table: stack.enter_context(_opened(name, family, table)) for table in by_table}
        chains = {table: _fill(name, handles[table], *change) for table, change in by_table.items()}
        for table, handle in handles.items():
            try:
                handle.commit()
            except iptc.IPTCError as error:
                # The kernel does not say which entry it was: ask it about fewer and fewer of them, elsewhere.
                subject = _find_refused(name, family, table, by_table[table][0], chains[table])
                reason = _reason(error)
                raise KernelError("commit iptables", netns=name, subject=subject, reason=reason) from error


def _empty(handle: Any, write: Sequence[IptablesChain], delete: Sequence[IptablesChain]) -> frozenset[str]:
    """Make the chains to write and empty all; returns the names of the table's chains."""
    for chain in write:
        if not handle.is_chain(chain.name):
            handle.create_chain(chain.name)
        else:
            handle.flush_entries(chain.name)
    for chain in delete:
        if handle.is_chain(chain.name):
            handle.flush_entries(chain.name)
    return frozenset(chain.name for chain in handle.chains)


def _fill(name: str, handle: Any, write: Sequence[IptablesChain], delete: Sequence[IptablesChain]) -> frozenset[str]:
    """Bring the copy of a table to what it shall be; returns the names of its chains."""
    from k8snetlab.kernel.xtables_entry import RuleError, compile_rule

    chains = _empty(handle, write, delete)
    for chain in write:
        if chain.policy:
            handle.set_policy(chain.name, chain.policy)
        for rule in chain.rules:
            try:
                entry = compile_rule(chain.family, rule, chains)
            except RuleError as error:
                subject = f"-t {chain.table} -A {chain.name} {rule}"
                raise KernelError("compile iptables", netns=name, subject=subject, reason=str(error)) from error
            handle.append_entry(chain.name, ctypes.create_string_buffer(entry, len(entry)))
    for chain in delete:
        if is_built_in(chain):
            handle.set_policy(chain.name, "ACCEPT")
        elif handle.is_chain(chain.name):
            handle.delete_chain(chain.name)
    return chains


@contextmanager
def _opened(name: str, family: Family, table: str) -> Iterator[Any]:
    """A copy of a table of this namespace. python-iptables keeps one for each name, from whatever namespace: read it
    again."""
    iptc = _iptc()
    kind = iptc.Table if family == 4 else iptc.Table6
    try:
        handle = kind(table, autocommit=False)
        handle.refresh()
    except iptc.IPTCError as error:
        what = f"this kernel has no {_PREFIX[family]} table {table} of the legacy kind"
        raise HostError(f"{what} ({_reason(error)})", hint=HINT) from error
    try:
        yield handle
    except iptc.IPTCError as error:
        raise KernelError("change iptables", netns=name, subject=f"-t {table}", reason=_reason(error)) from error
    finally:
        handle.close()


@contextmanager
def _locked() -> Iterator[None]:
    descriptor = os.open(_LOCK, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _find_refused(name: str, family: Family, table: str, write: Sequence[IptablesChain], chains: frozenset[str]) -> str:
    """The first rule that the kernel refuses in an otherwise empty namespace, or the table when it takes all."""
    rules = [(chain, rule) for chain in write for rule in chain.rules]
    syscalls.unshare(syscalls.CLONE_NEWNET)  # this process has nothing else to do any more
    number = _bisect(name, family, table, rules, chains)
    return f"-t {table} -A {rules[number][0].name} {rules[number][1]}" if number < len(rules) else f"-t {table}"


def _bisect(
    name: str, family: Family, table: str, rules: Sequence[tuple[IptablesChain, str]], chains: frozenset[str]
) -> int:
    """How many rules, from the first on, the kernel takes."""
    taken, refused = 0, len(rules) + 1
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if _takes(name, family, table, rules[:middle], chains):
            taken = middle
        else:
            refused = middle
    return taken


def _takes(
    name: str, family: Family, table: str, rules: Sequence[tuple[IptablesChain, str]], chains: frozenset[str]
) -> bool:
    texts: dict[str, list[str]] = {each: [] for each in chains}
    for chain, rule in rules:
        texts[chain.name].append(rule)
    trial = [IptablesChain(name, family, table, each, "", tuple(some)) for each, some in texts.items()]
    iptc = _iptc()
    with _opened(name, family, table) as handle:
        _fill(name, handle, trial, ())
        try:
            handle.commit()
        except iptc.IPTCError:
            return False
    return True


def _reason(error: Exception) -> str:
    """What libiptc says, without what it was asked."""
    return str(error).rpartition(": ")[2].removeprefix("b'").removesuffix("'")


@cache
def _iptc() -> Any:
    """python-iptables, told where its libraries are: it would start ldconfig and a compiler to find them (0.15 s)."""
    import importlib.util

    found = importlib.util.find_spec("iptc")
    places = {"IPTABLES_LIBDIR": str(Path(found.origin).parents[1]) if found and found.origin else ""}
    libraries = (Path("/usr", place, "xtables") for place in _EXTENSIONS)
    places["XTABLES_LIBDIR"] = next((str(path) for path in libraries if path.is_dir()), "")
    before = {name: os.environ.get(name) for name in places}
    os.environ.update({name: place for name, place in places.items() if place and not before[name]})
    try:
        import iptc
    except (ImportError, OSError, AttributeError, TypeError) as error:
        raise HostError(f"python-iptables does not work here: {error}", hint=HINT) from error
    finally:  # the lab's programs inherit the environment
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
    return iptc
