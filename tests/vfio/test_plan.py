"""What would be bound, and what is refused: pure plans, and the facts they are made from in a small sysfs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.vfio.functions import Function, look
from dmaproof.vfio.journal import Binding, Raised, Setting
from dmaproof.vfio.plan import Permission, plan, put_back

GPU, AUDIO, DISK, PORT = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0000:00:01.0"


def facts(*functions: Function) -> dict[str, Function]:
    return {one.bdf: one for one in functions}


def test_a_function_and_what_shares_its_group_are_taken_with_their_drivers_remembered() -> None:
    known = facts(
        Function(bdf=GPU, driver="nvidia", override="nvidia", group=7),
        Function(bdf=AUDIO, group=7),
        Function(bdf=PORT, driver="pcieport", group=7, bridge=True),
        Function(bdf=DISK, driver="nvme", group=8),
    )
    made = plan(known, [GPU])
    assert made.bind == (Binding(GPU, "nvidia", "nvidia", "vfio-pci"), Binding(AUDIO, None, None, "vfio-pci"))
    assert made.text.splitlines() == [
        f"{GPU}: nvidia -> vfio-pci (driver_override 'nvidia' comes back afterwards)",
        f"{AUDIO}: no driver -> vfio-pci",
    ]


def test_others_in_use_in_the_group_are_refused_unless_allowed() -> None:
    known = facts(Function(bdf=GPU, group=7), Function(bdf=AUDIO, driver="snd_hda_intel", group=7))
    refused = plan(known, [GPU])
    assert refused.bind == ()
    assert refused.refusals[0].startswith(f"{AUDIO} shares IOMMU group 7 and is in use by snd_hda_intel: ")
    assert 'may = ["group"] in the guest table of the rig' in refused.refusals[0]
    assert refused.text == "\n".join(refused.refusals)
    assert [one.bdf for one in plan(known, [GPU], may=Permission(group=True)).bind] == [GPU, AUDIO]
    assert [one.bdf for one in plan(known, [GPU, AUDIO]).bind] == [GPU, AUDIO]


@pytest.mark.parametrize(
    ("function", "may", "words", "way_out"),
    [
        (Function(bdf=GPU, boot_display=True), Permission(boot_display=True), "display this machine", "boot-display"),
        (Function(bdf=GPU, holds=("/", "swap")), Permission(disk=True), "the disk under /, swap", "disk"),
    ],
)
def test_what_the_machine_needs_is_refused_unless_allowed(
    function: Function, may: Permission, words: str, way_out: str
) -> None:
    (refusal,) = plan(facts(function), [GPU]).refusals
    assert words in refusal
    assert f'may = ["{way_out}"] in the guest table of the rig' in refusal
    assert plan(facts(function), [GPU], may=may).refusals == ()


def test_the_disk_in_the_same_group_is_refused_even_with_the_group_allowed() -> None:
    known = facts(Function(bdf=GPU, group=7), Function(bdf=DISK, driver="nvme", group=7, holds=("/",)))
    (refusal,) = plan(known, [GPU], may=Permission(group=True)).refusals
    assert refusal.startswith(f"{DISK} is the disk under /")


def test_what_is_already_vfios_stays_so_and_what_another_run_holds_is_refused() -> None:
    known = facts(Function(bdf=GPU, driver="vfio-pci", group=7))
    assert (plan(known, [GPU]).bind, plan(known, [GPU]).kept) == ((), (GPU,))
    assert "another run" in plan(known, [GPU], held={GPU}).refusals[0]


def test_a_bridge_is_refused() -> None:
    assert "is a bridge" in plan(facts(Function(bdf=PORT, bridge=True)), [PORT]).refusals[0]


LEFT = Binding(DISK, "nvme", None, "vfio-pci")


@pytest.mark.parametrize(
    ("driver", "override", "will_be"),
    [
        ("nvme", None, ("nvme", None)),  # killed before anything was done
        ("nvme", "vfio-pci", ("nvme", None)),
        (None, "vfio-pci", ("nvme", None)),
        ("vfio-pci", "vfio-pci", ("nvme", None)),
        (None, None, ("nvme", None)),  # killed in the midst of giving it back
        ("uio", "uio", ("uio", "uio")),  # an administrator's
        ("vfio-pci", None, ("vfio-pci", None)),
    ],
)
def test_what_a_crash_left_is_planned_for_as_it_will_be(
    driver: str | None, override: str | None, will_be: tuple[str | None, str | None]
) -> None:
    found = facts(Function(bdf=DISK, driver=driver, override=override), Function(bdf=GPU, driver="nvidia"))
    facts_then = put_back(found, [LEFT, Binding(AUDIO, "snd_hda_intel", None, "vfio-pci"), Setting("/a", "1", "2")])
    assert (facts_then[DISK].driver, facts_then[DISK].override) == will_be
    assert facts_then[GPU] == found[GPU]
    assert {*facts_then} == {DISK, GPU}


def test_a_dry_run_tells_what_is_put_back_first() -> None:
    made = replace(plan(facts(Function(bdf=DISK, driver="nvme")), [DISK]), first=(LEFT, Raised("/nr", 3, 8)))
    assert made.text.splitlines() == [
        f"{DISK}: vfio-pci -> nvme, put back first: a run that was killed has left it so",
        "/nr: -> 3, put back first: a run that was killed has left it so",
        f"{DISK}: nvme -> vfio-pci",
    ]


functions_of_three_groups = st.lists(
    st.builds(
        lambda number, driver, group, bridge: Function(
            bdf=f"0000:{number:02x}:00.0", driver=driver, group=group, bridge=bridge
        ),
        number=st.integers(1, 12),
        driver=st.sampled_from([None, "nvme", "vfio-pci"]),
        group=st.sampled_from([None, 1, 2]),
        bridge=st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.bdf,
)


@given(functions=functions_of_three_groups, data=st.data())
def test_a_plan_takes_all_or_nothing(functions: list[Function], data: st.DataObject) -> None:
    known = facts(*functions)
    wanted = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3))
    made = plan(known, wanted)
    taken = {one.bdf for one in made.bind} | set(made.kept)
    if made.refusals:
        assert not taken
        return
    groups = {known[bdf].group for bdf in wanted} - {None}
    assert taken == set(wanted) | {one.bdf for one in functions if one.group in groups and not one.bridge}
    assert all(one.driver != "vfio-pci" for one in made.bind)


def add(root: Path, bdf: str, class_code: str = "0x030000", group: int | None = None, **files: str) -> Path:
    folder = root / "sys/devices/pci0000:00" / bdf
    folder.mkdir(parents=True)
    for name, content in {"class": class_code, "driver_override": "(null)", **files}.items():
        (folder / name).write_text(f"{content}\n")
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True, exist_ok=True)
    (devices / bdf).symlink_to(os.path.relpath(folder, devices))
    if group is not None:
        members = root / f"sys/kernel/iommu_groups/{group}/devices"
        members.mkdir(parents=True, exist_ok=True)
        (members / bdf).symlink_to(folder)
        (folder / "iommu_group").symlink_to(members.parent)
    return folder


def drive(folder: Path, root: Path, number: str, *path: str) -> Path:
    place = folder.joinpath("nvme/nvme0", *path)
    place.mkdir(parents=True)
    numbers = root / "sys/dev/block"
    numbers.mkdir(parents=True, exist_ok=True)
    (numbers / number).symlink_to(place)
    return place


def test_facts_are_read_from_sysfs(tmp_path: Path) -> None:
    folder = add(tmp_path, GPU, group=7, boot_vga="1", driver_override="nvidia")
    (tmp_path / "sys/bus/pci/drivers/nvidia").mkdir(parents=True)
    (folder / "driver").symlink_to(tmp_path / "sys/bus/pci/drivers/nvidia")
    add(tmp_path, AUDIO, "0x040300", group=7, boot_vga="0")
    add(tmp_path, PORT, "0x060400", group=7)
    add(tmp_path, DISK, "0x010802", group=8)
    known = look([GPU], tmp_path)
    assert known == facts(
        Function(bdf=GPU, driver="nvidia", override="nvidia", group=7, boot_display=True),
        Function(bdf=AUDIO, group=7),
        Function(bdf=PORT, group=7, bridge=True),
    )


def test_the_disks_behind_mounts_are_found_through_partitions_and_mappers(tmp_path: Path) -> None:
    folder = add(tmp_path, DISK, "0x010802")
    drive(folder, tmp_path, "259:1", "nvme0n1", "nvme0n1p2")
    mapper = tmp_path / "sys/devices/virtual/block/dm-0"
    (mapper / "slaves").mkdir(parents=True)
    (mapper / "slaves/nvme0n1p2").symlink_to(folder / "nvme/nvme0/nvme0n1/nvme0n1p2")
    (tmp_path / "sys/dev/block/253:0").symlink_to(mapper)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "22 1 253:0 / / rw,relatime - ext4 /dev/mapper/vg-root rw\n"
        "23 22 259:1 / /boot rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
        "24 22 0:21 / /proc rw - proc proc rw\n"
    )
    assert look([DISK], tmp_path)[DISK].holds == ("/", "/boot")


def test_a_file_system_over_several_disks_is_found_by_what_it_was_mounted_from(tmp_path: Path) -> None:
    """btrfs shows a number of its own. Any device node will do for one: this one is 1:3."""
    folder = add(tmp_path, DISK, "0x010802")
    drive(folder, tmp_path, "1:3", "nvme0n1")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvme0n1").symlink_to("/dev/null")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("22 1 0:25 /root / rw,relatime - btrfs /dev/nvme0n1 rw\n")
    (tmp_path / "proc/swaps").write_text("Filename\tType\n/dev/nvme0n1 partition 8 0 -2\n")
    assert look([DISK], tmp_path)[DISK].holds == ("/", "swap")


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"there is no PCI function {GPU}"):
        look([GPU], tmp_path)
