"""A look at a machine's functions, over a tree of files as sysfs has them."""

from __future__ import annotations

from pathlib import Path

from dmaproof.evidence.counters import Key
from dmaproof.rig.look import look

HERE, GONE, LOST, PORT = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:00:10.0"


def function(root: Path, bdf: str, config: bytes, correctable: int) -> None:
    folder = root / "sys/bus/pci/devices" / bdf
    folder.mkdir(parents=True)
    (folder / "config").write_bytes(config)
    (folder / "aer_dev_correctable").write_text(f"RxErr {correctable}\nBadTLP 0\nTOTAL_ERR_COR {correctable}\n")


def test_states_and_counters_of_this_moment(tmp_path: Path) -> None:
    function(tmp_path, HERE, bytes.fromhex("3412e811") + bytes(60), 1)
    function(tmp_path, LOST, b"\xff" * 64, 0)
    function(tmp_path, PORT, bytes.fromhex("86800c00") + bytes(60), 7)
    seen = look((HERE, GONE, LOST), (HERE, PORT), str(tmp_path))
    assert seen.by_bdf == {HERE: "present", GONE: "absent", LOST: "lost"}
    assert seen.aer[Key(HERE, "aer-correctable", "RxErr")] == 1
    assert seen.aer[Key(PORT, "aer-correctable", "RxErr")] == 7
    assert {key.bdf for key in seen.aer} == {HERE, LOST, PORT}
    function(tmp_path, GONE, bytes(64), 0)
    assert look((GONE,), (), str(tmp_path)).by_bdf == {GONE: "present"}
