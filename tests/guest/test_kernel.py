"""Which kernel is meant by a word, and what is said where it is not there yet."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import kernel
from dmaproof.guest.kernel import Kernel
from tests.guest.test_image import arm64_image, bzimage

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="its files are x86_64's")


def keep(folder: Path, content: bytes, *, lacks: str = "", source: str = "7.2_7.2.13-1") -> None:
    """As a build leaves it."""
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(content)
    (folder / "lacks").write_text(lacks)
    (folder / "source").write_text(source)


@pytest.mark.parametrize(
    ("wanted", "arch", "command"),
    [
        ("own", "x86_64", "dmaproof lab kernel --kernel build"),
        ("selftests", "x86_64", "dmaproof lab selftests"),
        ("stock", "x86_64", "dmaproof lab kernel --kernel stock"),
        ("stock", "aarch64", "dmaproof lab kernel --kernel stock --arch aarch64"),
        ("own", "aarch64", "dmaproof lab kernel --kernel stock --arch aarch64"),
        ("host", "aarch64", "dmaproof lab kernel --kernel stock --arch aarch64"),
    ],
)
def test_what_is_not_there_is_named_with_its_command(wanted: str, arch: str, command: str, cache: Path) -> None:
    with pytest.raises(UsageError) as caught:
        kernel.choose(wanted, arch)
    assert f"`{command}`" in str(caught.value)
    assert not cache.exists()


def test_the_projects_own_is_the_newest_of_today_s_fragment(cache: Path) -> None:
    keep(cache / "kernel" / "own-x86_64-7.1-000000000000", bzimage("7.1.0"))
    with pytest.raises(UsageError, match="no lab kernel of the project's own"):
        kernel.choose("own", "x86_64")
    old, new = (kernel.place("own", "x86_64", version) for version in ("7.2_7.2.12-1", "7.2_7.2.13-1"))
    keep(new, bzimage("7.2.13"), lacks="CONFIG_CXL_ACPI=y\n")
    keep(old, bzimage("7.2.12"))
    os.utime(old, (0, 0))
    assert kernel.choose("own", "x86_64") == Kernel(new / "vmlinuz", None, "7.2.13", None, ("CONFIG_CXL_ACPI=y",))
    (cache / "source" / "7.2_7.2.13-1").mkdir(parents=True)
    assert kernel.choose("own", "x86_64").source == cache / "source" / "7.2_7.2.13-1"


def test_the_fragment_decides_the_place_its_comments_do_not(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    usual = kernel.place("own", "x86_64", "7")
    assert kernel.place("selftests", "x86_64", "7").name.split("-")[-1] != usual.name.split("-")[-1]
    text = kernel.fragment("own", "x86_64")
    monkeypatch.setattr(kernel, "fragment", lambda _wanted, _arch: f"# other words\n{text}")
    assert kernel.place("own", "x86_64", "7") == usual
    monkeypatch.setattr(kernel, "fragment", lambda _wanted, _arch: f"{text}CONFIG_MORE=y\n")
    assert kernel.place("own", "x86_64", "7") != usual


def test_a_stock_kernel_brings_its_modules(cache: Path) -> None:
    folder = cache / "kernel" / "stock-x86_64-7.2.13-1" / "usr/lib/modules/7.2.13-cloud"
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(bzimage("7.2.13-cloud"))
    (folder / "modules.dep").touch()
    assert kernel.choose("stock", "x86_64") == Kernel(folder / "vmlinuz", folder, "7.2.13-cloud", None)


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bzImage").write_bytes(bzimage("8.0.0-rc1-mine"))
    monkeypatch.chdir(tmp_path)
    assert kernel.choose("bzImage", "x86_64") == Kernel(tmp_path / "bzImage", None, "8.0.0-rc1-mine", None)
    (tmp_path / "Image").write_bytes(arm64_image())
    with pytest.raises(UsageError, match=r"Image is for aarch64, the lab host for x86_64"):
        kernel.choose("Image", "x86_64")
    assert kernel.choose(str(tmp_path / "Image"), "aarch64").release == "7.2.13-arm64"


def test_every_option_of_the_fragments_is_asked_for_once_and_none_is_a_module() -> None:
    for wanted in ("own", "selftests"):
        lines = [one for one in kernel.fragment(wanted, "x86_64").splitlines() if one and not one.startswith("#")]
        assert all(one.startswith("CONFIG_") and one.endswith("=y") for one in lines)
        assert len(set(lines)) == len(lines)
    assert "CONFIG_IOMMUFD_TEST=y" not in kernel.asked_for(kernel.fragment("own", "x86_64"))
