"""The layouts and numbers, against literals for every machine and against the kernel's headers where cc finds them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from dmaproof.vfio import layouts
from dmaproof.vfio.ioctl import Request, Type1

STRUCTS = {
    "vfio.h": {
        "vfio_group_status": (layouts.GroupStatus, 8),
        "vfio_device_info": (layouts.DeviceInfo, 16),
        "vfio_region_info": (layouts.RegionInfo, 32),
        "vfio_iommu_type1_info": (layouts.Type1Info, 24),
        "vfio_info_cap_header": (layouts.CapabilityHeader, 8),
        "vfio_iommu_type1_dma_map": (layouts.Type1Map, 32),
        "vfio_iommu_type1_dma_unmap": (layouts.Type1Unmap, 24),
        "vfio_device_bind_iommufd": (layouts.BindIommufd, 16),
        "vfio_device_attach_iommufd_pt": (layouts.Attach, 12),
        "vfio_device_detach_iommufd_pt": (layouts.Detach, 8),
        "vfio_device_feature": (layouts.Feature, 8),
        "vfio_device_feature_dma_buf": (layouts.DmaBuf, 16),
    },
    "iommufd.h": {
        "iommu_destroy": (layouts.Destroy, 8),
        "iommu_ioas_alloc": (layouts.IoasAlloc, 12),
        "iommu_ioas_iova_ranges": (layouts.IovaRanges, 32),
        "iommu_ioas_map": (layouts.IoasMap, 40),
        "iommu_ioas_map_file": (layouts.IoasMapFile, 40),
        "iommu_ioas_unmap": (layouts.IoasUnmap, 24),
        "iommu_hw_info": (layouts.HwInfo, 40),
    },
}
SAME_NAME = ("argsz", "reserved", "pad")
"""Fields that the two headers call by several names (size, __reserved, __pad)."""
ALL = [(header, name) for header, structs in STRUCTS.items() for name in structs]


@pytest.mark.parametrize(("header", "name"), ALL)
def test_sizes(header: str, name: str) -> None:
    layout, nbytes = STRUCTS[header][name]
    assert ctypes.sizeof(layout) == nbytes


@pytest.mark.parametrize("name", [name for _, name in ALL])
def test_a_request_says_its_own_length(name: str) -> None:
    layout, nbytes = next(structs[name] for structs in STRUCTS.values() if name in structs)
    if issubclass(layout, layouts.Sized):
        assert layout().argsz == nbytes


def test_numbers() -> None:
    """As the table of the uAPI has them: 0x3B00 with 100 and up for VFIO, 0x80 and up for iommufd."""
    assert Request.VFIO_GET_API_VERSION == 0x3B64
    assert Request.VFIO_DEVICE_FEATURE == 0x3B75
    assert Type1.VFIO_IOMMU_MAP_DMA == 0x3B71
    assert Request.IOMMU_IOAS_MAP_FILE == 0x3B8F


@pytest.mark.parametrize("header", STRUCTS)
def test_the_kernels_headers_agree(header: str, tmp_path: Path) -> None:
    facts = compiled(header, tmp_path)
    compared = 0
    for name, (layout, nbytes) in STRUCTS[header].items():
        for field, *_ in layout._fields_:
            where = facts.get(f"{name}.{field}")
            if where is not None and field not in SAME_NAME:
                assert getattr(layout, field).offset == where, f"{name}.{field}"
                compared += 1
        if name in facts:
            assert facts[name] >= nbytes, name
    for request in (*Request, *Type1):
        if request.name in facts:
            assert facts[request.name] == request, request.name
            compared += 1
    assert compared > 10


def compiled(header: str, folder: Path) -> dict[str, int]:
    """Sizes, offsets and numbers that a C program says, of what this header has."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    preprocess = ["cc", "-E", "-dD", "-D__user=", "-x", "c", "-"]
    done = subprocess.run(preprocess, input=f"#include <linux/{header}>", capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no linux/{header}: these kernel headers are too old (C_INCLUDE_PATH may name newer ones)")
    text = done.stdout
    lines = ["#include <stdio.h>", "#include <stddef.h>", f"#include <linux/{header}>", "int main(void) {"]
    for name, (layout, _) in STRUCTS[header].items():
        if f"struct {name} {{" not in text:
            continue
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        body = text.split(f"struct {name} {{")[1].split("\n};")[0]
        for field, *_ in layout._fields_:
            if f" {field};" in body.replace("\t", " ") or f"\t{field};" in body:
                lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
    for request in (*Request, *Type1):
        lines += [
            f"#ifdef {request.name}",
            f'printf("{request.name} %lu\\n", (unsigned long){request.name});',
            "#endif",
        ]
    (folder / "facts.c").write_text("\n".join([*lines, "return 0; }"]))
    subprocess.run(["cc", "-D__user=", "-o", folder / "facts", folder / "facts.c"], check=True, capture_output=True)
    told = subprocess.run([folder / "facts"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in told.splitlines())}
