"""The C side: a ``libnvidia-ml.so.1`` whose functions are looked up in a table that Python fills at the first call."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from dmaproof.errors import UsageError
from dmaproof.virtual.nvml.codes import NOT_IMPLEMENTED, Code
from dmaproof.virtual.stub.build import build

SONAME = "libnvidia-ml.so.1"
_BY_OTHERS = frozenset({"nvmlInit_v2", "nvmlInit", "nvmlDeviceGetPciInfo"})
"""Names that other bindings ask for."""
_ASKED = re.compile(r'_nvmlGetFunctionPointer\("(nvml\w+)"\)')

_HEAD = """
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#define EXPORT __attribute__((visibility("default")))
/* Of the interpreter that loaded this library; weak, because a program without one may load it too. */
extern int PyGILState_Ensure(void) __attribute__((weak));
extern void PyGILState_Release(int) __attribute__((weak));
extern int PyRun_SimpleString(const char *) __attribute__((weak));
/* NVML passes integers and pointers only, at most eight: each fits a long, whatever its C type is. */
typedef long (*call_fn)(long, long, long, long, long, long, long, long);
static pthread_once_t loaded = PTHREAD_ONCE_INIT;
static void load(void)
{
    if (PyGILState_Ensure == NULL || PyRun_SimpleString == NULL) {
        fprintf(stderr, "dmaproof: the simulated libnvidia-ml.so.1 works only inside a Python process\\n");
        return;
    }
    int state = PyGILState_Ensure();
    if (PyRun_SimpleString("import dmaproof.virtual.nvml.install as _dmaproof_install; _dmaproof_install.install()\\n"
                           "del _dmaproof_install\\n") != 0)
        fprintf(stderr, "dmaproof: the simulated NVML could not be loaded\\n");
    PyGILState_Release(state);
}
static _Atomic int installed;
"""

_TAIL = """
EXPORT void dmaproof_nvml_installed(void) { atomic_store(&installed, 1); }
static long call(int number, long a, long b, long c, long d, long e, long f, long g, long h)
{
    pthread_once(&loaded, load);
    if (!atomic_load(&installed))
        return %(absent)d;
    call_fn function = dmaproof_nvml_table[number];
    return function == NULL ? %(first)d + number : function(a, b, c, d, e, f, g, h);
}
#define NVML(number, name) EXPORT long name(long a, long b, long c, long d, long e, long f, long g, long h) \\
    { return call(number, a, b, c, d, e, f, g, h); }
EXPORT const char *nvmlErrorString(int code)
{
    pthread_once(&loaded, load);
    call_fn function = dmaproof_nvml_table[%(error_string)d];
    return function == NULL ? "NVML could not be loaded" : (const char *)function(code, 0, 0, 0, 0, 0, 0, 0);
}
"""


def function_names() -> tuple[str, ...]:
    """Every NVML function that the installed pynvml may ask for. UsageError where it is not installed."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise UsageError("no pynvml to serve: pip install nvidia-ml-py")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return tuple(sorted({*_ASKED.findall(text), *_BY_OTHERS, "nvmlErrorString"}))


def source(names: tuple[str, ...]) -> str:
    """The C text that exports ``names``."""
    numbers = {"absent": Code.UNKNOWN, "first": NOT_IMPLEMENTED, "error_string": names.index("nvmlErrorString")}
    listed = ",\n".join(f'    "{name}"' for name in names)
    table = f"EXPORT const char *const dmaproof_nvml_names[] = {{\n{listed},\n    NULL}};\n"
    table += f"EXPORT call_fn dmaproof_nvml_table[{len(names)}];\n"
    calls = "\n".join(f"NVML({number}, {name})" for number, name in enumerate(names) if name != "nvmlErrorString")
    return _HEAD + table + _TAIL % numbers + calls + "\n"


def build_nvml(folder: Path) -> Path:
    """``folder/libnvidia-ml.so.1``."""
    return build(source(function_names()), SONAME, folder)
