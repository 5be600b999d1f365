"""``dmaproof lab``, as a person calls it; the cache folder is the test's own."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from tests.guest.test_image import bzimage
from tests.guest.test_program import stand_in
from tests.support.console import dmaproof

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="its files are x86_64's")


def test_without_a_word_it_says_what_there_is() -> None:
    assert dmaproof("lab").complaint.startswith("dmaproof: say what to do: qemu, kernel")
    assert "did you mean 'kernel'?" in dmaproof("lab", "kernl").complaint


def test_a_kernel_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(bzimage("8.0.0-rc1-mine"))
    said = dmaproof("lab", "kernel", "--kernel", tmp_path / "bzImage")
    assert (said.status, said.out) == (0, f"{tmp_path}/bzImage  Linux 8.0.0-rc1-mine, no modules\n")
    said = dmaproof("lab", "kernel", "--kernel", tmp_path / "bzImage", "--json")
    assert json.loads(said.out)["release"] == "8.0.0-rc1-mine"
    (tmp_path / "text").write_text("no kernel")
    assert "is no kernel that QEMU starts" in dmaproof("lab", "kernel", "--kernel", tmp_path / "text").complaint


def test_building_without_the_tools_names_the_one_command(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    complaint = dmaproof("lab", "kernel", env=env).complaint
    assert "run `sudo apt-get install -y make gcc flex bison bc" in complaint
    assert "libelf-dev" in complaint
    assert not (tmp_path / "cache").exists()


def test_a_system_without_apt_is_told_what_to_do(tmp_path: Path) -> None:
    said = dmaproof("lab", "qemu", env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert said.status == 2
    assert "has no apt-get of Debian or Ubuntu to unpack packages with: install QEMU by its own" in said.err


def test_the_userland_is_found_or_the_system_told_what_it_lacks(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert "has no apt-get of Debian or Ubuntu" in dmaproof("lab", "python", env=env).complaint
    there = tmp_path / "cache/dmaproof/lab/userland/aarch64-3.99"
    there.mkdir(parents=True)
    (there / "version").write_text("3.99")
    said = dmaproof("lab", "python", "--arch", "aarch64", env=env)
    assert (said.status, said.out) == (0, f"{there}/userland.cpio  Python 3.99\n")
    said = dmaproof("lab", "python", "--json", env=env)
    assert json.loads(said.out)["compiler"]["version"] == "3.99"


def test_doctor_names_what_supplies_qemu_kernel_and_compiler(tmp_path: Path) -> None:
    stand_in(tmp_path / "bin/qemu-system-x86_64", {"edu": []})
    env = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    rows = {row["subject"]: row for row in json.loads(dmaproof("doctor", "--json", env=env).out)}
    assert rows["lab QEMU"]["state"] == rows["lab kernel"]["state"] == "missing"
    assert rows["lab QEMU"]["supply"] == "dmaproof lab qemu"
    assert "(10.0.2) has no igb, nvme" in rows["lab QEMU"]["detail"]
    assert rows["lab kernel"]["supply"].startswith("sudo apt-get install -y make gcc")
    assert rows["lab kernel"]["supply"].endswith(" && dmaproof lab kernel --kernel build")
    assert rows["lab for arm64"]["supply"].split(" && ") == [
        "dmaproof lab qemu --arch aarch64",
        "dmaproof lab kernel --kernel stock --arch aarch64",
        "dmaproof lab python --arch aarch64",
    ]
