"""Modules, libraries and what they hold."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.abi import call, get_text, put_int, put_u32, put_u64
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.modules import Kernel, Module, load

# CUfunction_attribute: what a small kernel without shared or local memory answers.
_ATTRIBUTES = {
    0: 1024,  # MAX_THREADS_PER_BLOCK
    1: 0,  # SHARED_SIZE_BYTES
    2: 0,  # CONST_SIZE_BYTES
    3: 0,  # LOCAL_SIZE_BYTES
    4: 32,  # NUM_REGS
    5: 90,  # PTX_VERSION
    6: 90,  # BINARY_VERSION
    7: 0,  # CACHE_MODE_CA
    8: 49152,  # MAX_DYNAMIC_SHARED_SIZE_BYTES
    9: -1,  # PREFERRED_SHARED_MEMORY_CARVEOUT
}


@call("cuModuleLoadData", "pp")
def cu_module_load_data(target: int, image: int) -> None:
    _load_into_context(target, image)


def _load_into_context(target: int, image: int) -> None:
    """Loading code may need the context to be idle (CUDA C++ Programming Guide, lazy loading, concurrent execution).
    Here it always does: a program that loads behind a kernel that waits for it must be found out."""
    module = load(driver(), image)
    driver().synchronize_context(driver().context())
    put_u64(target, module.handle)


@call("cuModuleLoadDataEx", "ppIpp")
def cu_module_load_data_ex(target: int, image: int, noptions: int, options: int, values: int) -> None:
    """JIT options are hints to a compiler that is not there; options that promise output are refused."""
    _refuse_options(noptions, options, values)
    _load_into_context(target, image)


def _refuse_options(noptions: int, _options: int, _values: int) -> None:
    if noptions:
        raise not_supported(f"loading a module with {noptions} JIT options")


@call("cuModuleUnload", "p")
def cu_module_unload(handle: int) -> None:
    driver().handles.get(handle, Module).unload(driver())


@call("cuModuleGetFunction", "ppp")
def cu_module_get_function(target: int, handle: int, name: int) -> None:
    put_u64(target, driver().handles.get(handle, Module).kernel(get_text(name)).handle)


@call("cuModuleGetGlobal", "pppp", since=3020)
def cu_module_get_global(_target: int, _nbytes: int, _handle: int, _name: int) -> None:
    """None of the images that this driver runs has a global it would know."""
    raise DriverError(CuResult.NOT_FOUND)


@call("cuModuleGetLoadingMode", "p", needs="init")
def cu_module_get_loading_mode(target: int) -> None:
    put_int(target, 1)  # CU_MODULE_EAGER_LOADING


@call("cuLibraryLoadData", "ppppIppI")
def cu_library_load_data(  # noqa: PLR0913, RUF100 - as the API has it
    target: int,
    image: int,
    options: int,
    values: int,
    noptions: int,
    _library_options: int,
    _library_values: int,
    nlibrary_options: int,
) -> None:
    _refuse_options(noptions + nlibrary_options, options, values)
    put_u64(target, load(driver(), image).handle)


@call("cuLibraryUnload", "p")
def cu_library_unload(handle: int) -> None:
    cu_module_unload(handle)


@call("cuLibraryGetModule", "pp")
def cu_library_get_module(target: int, handle: int) -> None:
    put_u64(target, driver().handles.get(handle, Module).handle)


@call("cuLibraryGetKernel", "ppp")
def cu_library_get_kernel(target: int, handle: int, name: int) -> None:
    cu_module_get_function(target, handle, name)


@call("cuLibraryGetKernelCount", "pp")
def cu_library_get_kernel_count(target: int, handle: int) -> None:
    put_u32(target, len(driver().handles.get(handle, Module).kernels))


@call("cuLibraryEnumerateKernels", "pIp")
def cu_library_enumerate_kernels(target: int, room: int, handle: int) -> None:
    kernels = list(driver().handles.get(handle, Module).kernels.values())[:room]
    for index, kernel in enumerate(kernels):
        put_u64(target + 8 * index, kernel.handle)


@call("cuKernelGetFunction", "pp")
def cu_kernel_get_function(target: int, kernel: int) -> None:
    put_u64(target, driver().handles.get(kernel, Kernel).handle)


@call("cuKernelGetLibrary", "pp")
def cu_kernel_get_library(target: int, kernel: int) -> None:
    put_u64(target, driver().handles.get(kernel, Kernel).module.handle)


@call("cuFuncGetModule", "pp")
def cu_func_get_module(target: int, kernel: int) -> None:
    cu_kernel_get_library(target, kernel)


@call("cuKernelGetName", "pp")
def cu_kernel_get_name(target: int, kernel: int) -> None:
    put_u64(target, ctypes.addressof(driver().handles.get(kernel, Kernel).name))


@call("cuFuncGetName", "pp")
def cu_func_get_name(target: int, kernel: int) -> None:
    cu_kernel_get_name(target, kernel)


@call("cuKernelGetParamInfo", "pzpp")
def cu_kernel_get_param_info(kernel: int, index: int, offset: int, nbytes: int) -> None:
    parameters = driver().handles.get(kernel, Kernel).entry.parameters
    if index >= len(parameters):
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(offset, parameters[index].offset)
    if nbytes:
        put_u64(nbytes, parameters[index].nbytes)


@call("cuFuncGetParamInfo", "pzpp")
def cu_func_get_param_info(kernel: int, index: int, offset: int, nbytes: int) -> None:
    cu_kernel_get_param_info(kernel, index, offset, nbytes)


@call("cuKernelGetParamCount", "pp")
def cu_kernel_get_param_count(kernel: int, count: int) -> None:
    put_u64(count, len(driver().handles.get(kernel, Kernel).entry.parameters))


@call("cuFuncGetParamCount", "pp")
def cu_func_get_param_count(kernel: int, count: int) -> None:
    cu_kernel_get_param_count(kernel, count)


@call("cuFuncGetAttribute", "pip")
def cu_func_get_attribute(target: int, attribute: int, kernel: int) -> None:
    driver().handles.get(kernel, Kernel)
    if attribute not in _ATTRIBUTES:
        raise not_supported(f"function attribute {attribute}")
    put_int(target, _ATTRIBUTES[attribute])


@call("cuKernelGetAttribute", "pipi")
def cu_kernel_get_attribute(target: int, attribute: int, kernel: int, device: int) -> None:
    driver().device(device)
    cu_func_get_attribute(target, attribute, kernel)


@call("cuFuncLoad", "p")
def cu_func_load(kernel: int) -> None:
    driver().handles.get(kernel, Kernel)


@call("cuFuncIsLoaded", "pp")
def cu_func_is_loaded(target: int, kernel: int) -> None:
    driver().handles.get(kernel, Kernel)
    put_int(target, 1)
