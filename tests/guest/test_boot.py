"""The command line of a lab host's kernel: all of it arrives, or it is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dmaproof.errors import NodeError
from dmaproof.guest import boot, kernel, program
from tests.support.lab import supplied


def test_our_init_takes_the_place_of_virtmes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "is not there"), str(tmp_path)])
    monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
    line = boot.with_our_init("console=ttyS0 init=/bin/sh virtme_root=1 iommu=pt")
    assert line == (
        f"console=ttyS0 iommu=pt PYTHONPATH={tmp_path} init=/opt/venv/bin/python -- -S -P -m dmaproof.guest.init"
    )


def test_blanks_in_folders_are_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    assert f' PYTHONPATH="{folder}" init=' in boot.with_our_init("quiet")


def test_the_longest_that_the_kernel_takes_is_taken() -> None:
    """2048 with the zero at the end: COMMAND_LINE_SIZE of x86 and arm64."""
    assert boot.whole("x" * 2047) == "x" * 2047
    with pytest.raises(NodeError, match="would be 2048 bytes, and it takes 2047"):
        boot.whole("x" * 2048)
    with pytest.raises(NodeError, match="would be 2048 bytes"):
        boot.whole("ü" * 1024)


def test_a_long_sys_path_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = [tmp_path / f"{n}-{'x' * 180}" for n in range(10)]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder) for folder in folders])
    with pytest.raises(NodeError, match=r"shorten PYTHONPATH, which has \d{4} of them \(it lists .* sys\.path\)"):
        boot.whole(boot.with_our_init("console=ttyS0 quiet"))


def test_what_loads_a_kernels_modules_is_there_when_qemu_starts(tmp_path: Path) -> None:
    """virtme-ng's initramfs is a file of its own process, unless it is told to keep it; asked again, it has another."""
    supplied(image=kernel.STOCK)
    stock, qemu = kernel.choose(kernel.STOCK, "x86_64"), program.choose(program.AUTO, "x86_64")
    for _ in range(2):
        words = boot.on_own_root(stock, qemu, tmp_path, (), (), accelerated=False)
        initrd = Path(words[words.index("-initrd") + 1])
        assert initrd.parent == tmp_path
        assert initrd.stat().st_size > 1 << 20
