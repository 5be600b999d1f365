"""Workloads for the tests of the worker: what works, what fails, and real hangs."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dmaproof.progress import note


@dataclass(frozen=True)
class Pair:
    a: int
    b: int


@dataclass(frozen=True)
class Sum:
    total: float
    parts: tuple[int, ...]
    pid: int


def add(pair: Pair, scale: float = 1.0) -> Sum:
    note("adding", a=pair.a, b=pair.b)
    return Sum((pair.a + pair.b) * scale, (pair.a, pair.b), os.getpid())


def nothing() -> None:
    return


def environment(name: str) -> str | None:
    return os.environ.get(name)


def raise_value_error(text: str) -> None:
    raise ValueError(text)


def return_another_type() -> Sum:
    return {"total": 3}  # type: ignore[return-value]


def print_and_crash(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the output is what is tested
    ctypes.string_at(0)


def leave(code: int) -> None:
    sys.exit(code)


def work_longer_than_a_pipe_holds(nbytes: int) -> str:
    return "x" * nbytes


def note_from_threads(count: int) -> None:
    threads = [threading.Thread(target=note, args=("thread",), kwargs={"number": number}) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def note_after_returning() -> None:
    threading.Timer(0.1, note, args=("late",)).start()


def compute_without_end() -> None:
    """A thread whose frames come and go all the time, also those between two calls of C."""

    def deeper(depth: int, *more: int) -> int:
        return depth and 1 + deeper(depth - 1, depth, *more)

    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 8)(*range(8))
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda _a, _b: deeper(2))
    while True:
        libc.qsort(numbers, 8, 4, compare)
        for depth in range(5):
            deeper(depth)


def work_on_one_processor(cpu: int, cpu_s: float) -> float:
    """Seconds that it took to work for ``cpu_s``."""
    os.sched_setaffinity(0, {cpu})  # of this thread
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < cpu_s:
        pass
    return time.monotonic() - began_s


def work_of_a_thread(cpu: int, cpu_s: float) -> float:
    """The same by a thread that is waited for."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work_on_one_processor, cpu, cpu_s).result()


def work_of_a_child(cpu: int, cpu_s: float) -> float:
    """The same by a process that is waited for."""
    found = f"import sys; sys.path[:] = {sys.path}"
    code = f"{found}; from tests.node.planted import work_on_one_processor as work; print(work({cpu}, {cpu_s}))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def leave_when_looked_at() -> None:
    time.sleep(0.4)  # more than its deadline, less than it and the look at it
    os._exit(0)


def mutex_deadlock() -> None:
    note("allocation", va=0x7F0000000000, nbytes=1024, memory="managed")
    print("about to lock twice", flush=True)  # noqa: T201 - the output is what is tested
    mutex = ctypes.create_string_buffer(64)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def spin_holding_the_gil() -> None:
    note("spinning")
    lock = ctypes.c_int()
    libc = ctypes.PyDLL(None)
    libc.pthread_spin_init(ctypes.byref(lock), 0)
    libc.pthread_spin_lock(ctypes.byref(lock))
    libc.pthread_spin_lock(ctypes.byref(lock))


def sleep_holding_the_gil() -> None:
    note("sleeping")
    ctypes.PyDLL(None).sleep(3600)


def ignore_sigterm_and_sleep() -> None:
    ctypes.CDLL(None).signal(15, 1)
    time.sleep(3600)


def leave_a_child_behind() -> int:
    """The pid of a process of the worker's own that will not end by itself."""
    return os.posix_spawn("/bin/sleep", ["sleep", "3600"], os.environ)


def read_file(path: str) -> None:
    note("reading", path=path)
    with Path(path).open("rb", buffering=0) as file:
        file.read(4096)


def read_file_in_a_thread(path: str) -> None:
    thread = threading.Thread(target=read_file, args=(path,))
    thread.start()
    thread.join()


def sleep(seconds: float) -> None:
    note("sleeping")
    time.sleep(seconds)
