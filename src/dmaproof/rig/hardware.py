"""The parts that a rig file may claim: GPUs, DMA engines, switches, links, the IOMMU; and the QEMU that makes them.

Lengths are bytes. What a rig file says beyond hardware is in dmaproof.rig.model.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dmaproof import bdf
from dmaproof.errors import UsageError


def _bdf(text: str) -> str:
    try:
        return bdf.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _word(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is None:
        raise ValueError(f"{text!r} cannot be a name: use letters, digits and . _ - (it stands in test ids and paths)")
    return text


def _option(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*=[^,\s]+", text) is None:
        raise ValueError(f"{text!r} is not one option of QEMU's: write KEY=VALUE, such as caching-mode=on")
    return text


def _cpu(text: str) -> str:
    if re.fullmatch(r"[^\s,][^\s]*", text) is None:
        raise ValueError(f"{text!r} is not a CPU of QEMU's: write MODEL[,KEY=VALUE], such as EPYC-v4")
    return text


def _page(nbytes: int) -> int:
    if nbytes < 1 << 16 or nbytes & (nbytes - 1):
        raise ValueError("no size of huge pages: it is a power of two, such as 2097152 (2 MiB) or 1073741824 (1 GiB)")
    return nbytes


def _kernel(text: str) -> str:
    if text not in KERNELS and "/" not in text:
        raise ValueError(f"{text!r} is neither one of {', '.join(KERNELS)} nor the path of a kernel image (with a /)")
    return text


def _user(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text) is None:  # a word that ssh could take for an option is none
        raise ValueError(f"{text!r} is no name of a user")
    return text


def _program_there(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError(f"{text!r} is no path of a program on the image: write it in full, such as /usr/bin/python3")
    return text


def _program(text: str) -> str:
    if "/" not in text and not re.fullmatch(r"[a-z][a-z0-9-]*", text):
        raise ValueError(f"{text!r} is neither auto, nor a suite's name such as trixie, nor a QEMU's path (with a /)")
    return text


KERNELS = ("own", "stock", "host", "selftests")
Bdf = Annotated[str, AfterValidator(_bdf)]
Word = Annotated[str, AfterValidator(_word)]
IommuFamily = Literal["vtd", "amdvi", "smmuv3", "smmuv2", "virtio-iommu", "none", "unknown"]
DomainType = Literal["translated", "passthrough", "none", "unknown"]
EndpointKind = Literal["edu", "nvme", "igb", "iommu-testdev"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bar(Model):
    """One base address register: ``address`` is the bus address."""

    index: int = Field(ge=0, le=5)
    address: int = Field(ge=0, lt=1 << 64)
    nbytes: int = Field(gt=0, le=1 << 52)


class PcieLink(Model):
    """A link as it must be trained: ``generation`` 5 is 32 GT/s."""

    generation: int = Field(ge=1, le=7)
    width: int = Field(ge=1, le=32)


class Iommu(Model):
    """Which IOMMU stands over the node's endpoints, and their default domain type."""

    family: IommuFamily = "none"
    domain: DomainType = "none"


class Function(Model):
    """One PCI function that starts DMA. ``port`` is the port above it (root port or switch downstream port)."""

    name: str = ""
    bdf: Bdf
    port: Bdf | None = None
    numa_node: int | None = None


class Gpu(Function):
    """One CUDA GPU. ``clique`` is its GPUDirect clique, which a hypervisor gives it."""

    uuid: str | None = None
    product: str | None = None
    compute_capability: str | None = Field(default=None, pattern=r"^\d+\.\d+$")
    memory_nbytes: int | None = Field(default=None, gt=0)
    pcie: PcieLink | None = None
    nvlinks: int | None = Field(default=None, ge=0)
    bars: tuple[Bar, ...] = ()
    clique: int | None = Field(default=None, ge=0, le=15)


class Switch(Model):
    """One PCIe switch: its ``upstream`` port hangs under root port ``port``, GPUs under its ``downstream`` ports.

    ``pcie`` is the link of the upstream port; left out, that of the GPUs.
    """

    name: str = ""
    upstream: Bdf
    port: Bdf
    downstream: tuple[Bdf, ...] = Field(min_length=1)
    pcie: PcieLink | None = None


class Endpoint(Function):
    """One DMA engine that needs no CUDA. ``cmb_nbytes`` is the controller memory buffer of an NVMe drive."""

    kind: EndpointKind
    port: Bdf
    numa_node: int | None = Field(default=None, ge=0, le=127)
    cmb_nbytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _only_nvme_has_a_buffer(self) -> Endpoint:
        if self.cmb_nbytes is not None and self.kind != "nvme":
            raise ValueError(
                f"cmb_nbytes: only NVMe drives have a controller memory buffer, {self.name} is {self.kind}"
            )
        return self


class Qemu(Model):
    """How QEMU makes a lab node: what firmware and kernel cannot tell of it.

    ``cpu`` left out is QEMU's default, or what an accelerator makes of it. ``kernel`` is the project's own, a
    distribution's, this machine's, or the path of an image. ``program`` is the QEMU: the system's or the newest, that
    of a suite of the distribution, or a path. ``iommu_options`` are laid over those that dmaproof.guest.topology gives
    the IOMMU. ``no_acs`` are root ports without access control services.
    """

    arch: Literal["x86_64", "aarch64"] = "x86_64"
    cpu: Annotated[str, AfterValidator(_cpu)] | None = None
    cpus: int = Field(default=2, ge=1, le=64)
    memory_nbytes: int = Field(default=2 << 30, ge=128 << 20, le=1 << 40, multiple_of=1 << 20)
    kernel: Annotated[str, AfterValidator(_kernel)] = "own"
    program: Annotated[str, AfterValidator(_program)] = "auto"
    iommu_options: tuple[Annotated[str, AfterValidator(_option)], ...] = ()
    no_acs: tuple[Bdf, ...] = ()


class Disk(Model):
    """The disk image that a guest boots from, by the boot loader that is on it; it is never written to. The agent is
    started there as ``user`` over SSH, by the guest's ``port`` and the private key in file ``key``, with the image's
    ``python``, which has what this project imports.
    """

    path: Annotated[str, Field(min_length=1)]
    format: Literal["raw", "qcow2"]
    key: Annotated[str, Field(min_length=1)]
    user: Annotated[str, AfterValidator(_user)] = "root"
    port: int = Field(default=22, ge=1, le=65535)
    python: Annotated[str, AfterValidator(_program_there)] = "/usr/bin/python3"


class Guest(Model):
    """How a node is a guest of node ``on``: a machine that QEMU makes there, with ``on``'s functions assigned by VFIO.

    A function of the guest is the one that is called the same on ``on``; its addresses here are those that the guest
    sees. ``fill`` is what it boots into: a Python in memory, or the root file system, read-only, of the system that
    it is made on, with all that is installed there, or what is on ``disk``. ``no_mmap`` names functions whose BARs are
    left out of stage 2 on purpose (x-no-mmap of QEMU's vfio-pci: each access is trapped). ``may`` is what is taken for
    it although the machine seems to need it: other functions in use that share an IOMMU group with one of its, the
    display the machine booted with, a disk in use. ``hugepage_nbytes`` is the size of the pages that its memory is made
    of, ``numa_node`` the node of ``on`` that its memory and processors are on. ``arguments`` are QEMU's, put behind
    those that the rest stands for.
    """

    on: Word
    backend: Literal["type1", "iommufd"] = "type1"
    fill: Literal["initramfs", "root", "image"] = "initramfs"
    disk: Disk | None = None
    no_mmap: tuple[Word, ...] = ()
    may: tuple[Literal["group", "boot-display", "disk"], ...] = ()
    hugepage_nbytes: Annotated[int, AfterValidator(_page)] | None = None
    numa_node: int | None = Field(default=None, ge=0, le=1023)
    arguments: tuple[str, ...] = ()
