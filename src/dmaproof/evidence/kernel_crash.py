"""A kernel that dies, whole or in one thread: show_fault_oops and die of arch/x86/mm/fault.c and kernel/dumpstack.c,
die_kernel_fault and die of arch/arm64/mm/fault.c and kernel/traps.c, vpanic of kernel/panic.c.

A report takes many lines: what happened, who ran (dump_stack_print_info of lib/dump_stack.c), where, and the calls that
led there, up to the line of its end. All become one event. The calls are read for the first function of a module that
drives GPUs or hands them to guests: a bug often shows in code that a driver only called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_ADDRESS = r"(?P<va>[0-9a-f]{4,16})\b"
# "kernel NULL pointer dereference, address:" since 5.2; "unable to handle kernel .. at" before; arm64 says "virtual".
_NULL = re.compile(rf"kernel NULL pointer dereference(?:, address: | at (?:virtual address )?){_ADDRESS}")
_FAULT = re.compile(
    r"[Uu]nable to handle (?:page fault for address: |kernel [A-Za-z][\w -]{1,60} at (?:virtual address )?)" + _ADDRESS
)
_BUG = re.compile(r"kernel BUG at \S{1,200}:\d{1,6}!")
_SERROR = re.compile(r"SError Interrupt on CPU\d{1,5}, code (?P<code>0x[0-9a-f]{1,16}) -- SError")
_PANIC = re.compile(r"Kernel panic - not syncing: ")
# "Oops: " before every x86 one since 6.9, "Internal error: " before every arm64 one.
_DIES = re.compile(r"(?P<what>[A-Za-z][^\[]{1,160}): (?P<code>[0-9a-f]{1,16}) \[#\d{1,6}\]")
_WRONG_ADDRESS = re.compile(r"address 0x(?P<va>[0-9a-f]{1,16})")
_NAMES = {
    "general protection fault": "general-protection",
    "synchronous external abort": "external-abort",
    "invalid opcode": "invalid-opcode",
}

_TASK = re.compile(
    r"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: (?P<pid>\d{1,10}) Comm: (?P<name>.{1,64}?) (?:Kdump: |Tainted: |Not tainted)"
)
_MODULE = r"(?: \[(?P<module>\w{1,64})(?: [0-9a-f]{1,64})?\])?(?: \(\w{1,3}\))?"
_CODE = rf"(?:\[<[0-9a-f]{{8,16}}>\] *)*(?P<function>[\w.$]{{1,200}}\+0x[0-9a-f]{{1,8}}/0x[0-9a-f]{{1,16}}){_MODULE}"
_WHERE = re.compile(rf"(?:RIP: [0-9a-f]{{4}}:|pc : ){_CODE}")
_CALL = re.compile(rf"\s*{_CODE}\s*$")
_BEGINNINGS = ("nvidia", "vfio", "iommufd", "gdrdrv", "nv_peer_mem", "amdgpu", "ib_", "mlx5", "nvme")
_OF_GPUS = re.compile("|".join((*_BEGINNINGS, "xe$")))
_END = re.compile(r"---\[ end (?:trace [0-9a-f]{1,16}|Kernel panic - .{0,200}) \]---")
_MOST_TEXTS = 8


@dataclass
class _Report:
    """What is known of one death so far."""

    name: str
    time: float | None
    texts: list[str]
    va: int | None = None
    code: int | None = None
    task: re.Match[str] | None = None
    where: str | None = None
    driver: str | None = None
    dies: bool = False
    """The line with its number has come: the next is another report's."""

    def event(self) -> Event:
        return Event(
            kind="kernel-crash",
            text="\n".join(self.texts),
            time=self.time,
            event=self.name,
            reason=self.code,
            pid=None if self.task is None else int(self.task["pid"]),
            process=None if self.task is None else self.task["name"],
            va=self.va,
            driver=self.driver,
            function=self.where,
        )

    def tell(self, line: Line) -> None:
        if len(self.texts) < _MOST_TEXTS:
            self.texts.append(line.text)


class KernelCrashDecoder:
    """Decodes one report at a time: the kernel prints them one after the other (oops_begin, panic_cpu)."""

    needles = (
        *("able to handle", "kernel NULL pointer", "kernel BUG at", "SError Interrupt", "not syncing", " [#"),
        *(" Comm: ", "RIP: ", "pc : ", "[ end trace"),
        *(f"[{module}" for module in (*_BEGINNINGS, "xe")),
    )

    def __init__(self) -> None:
        self._open: _Report | None = None

    @property
    def idle(self) -> bool:
        return self._open is None

    def feed(self, line: Line) -> Sequence[Event] | None:
        if _END.search(line.text):
            return None if self._open is None else self.finish()  # a warning ends like that too
        opened = _opened(line)
        if opened is not None:
            done = self.finish()
            self._open = opened
            return done
        if match := _DIES.search(line.text):
            return self._dies(match, line)
        return None if self._open is None else _adds(self._open, line)

    def _dies(self, match: re.Match[str], line: Line) -> Sequence[Event]:
        """The second line of most reports, the first of some."""
        done: Sequence[Event] = ()
        if self._open is None or self._open.dies or self._open.name == "panic":
            done = self.finish()
            self._open = _Report(_named(match["what"]), line.time, [])
            wrong = _WRONG_ADDRESS.search(match["what"])
            self._open.va = None if wrong is None else int(wrong["va"], 16)
        self._open.dies, self._open.code = True, int(match["code"], 16)
        self._open.tell(line)
        return done

    def finish(self) -> Sequence[Event]:
        report, self._open = self._open, None
        return () if report is None else (report.event(),)


def _opened(line: Line) -> _Report | None:
    text = line.text
    if match := _NULL.search(text):
        return _Report("null-dereference", line.time, [text], va=int(match["va"], 16))
    if match := _FAULT.search(text):
        return _Report("page-fault", line.time, [text], va=int(match["va"], 16))
    if _BUG.search(text):
        return _Report("bug", line.time, [text])
    if match := _SERROR.search(text):
        return _Report("serror", line.time, [text], code=int(match["code"], 16))
    if _PANIC.search(text):
        return _Report("panic", line.time, [text])
    return None


def _named(what: str) -> str:
    return next((name for said, name in _NAMES.items() if said in what), "oops")


def _adds(report: _Report, line: Line) -> Sequence[Event] | None:
    """Nothing yet for a line of ``report``; None for one that has nothing to add."""
    if report.task is None and (task := _TASK.search(line.text)):
        report.task = task
        report.tell(line)
        return ()
    if report.where is None and (where := _WHERE.search(line.text)):
        report.where = _place(where)
        report.driver = where["module"]
        report.tell(line)
        return ()
    call = _CALL.match(line.text) if report.driver is None else None
    if call is not None and call["module"] is not None and _OF_GPUS.match(call["module"]):
        report.driver = call["module"]
        report.tell(line)
        return ()
    return None


def _place(match: re.Match[str]) -> str:
    return match["function"] + (f" [{match['module']}]" if match["module"] else "")
