"""Error counters: AER by sysfs, from real files; what became more between two readings."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence import counters
from dmaproof.evidence.counters import Key
from dmaproof.evidence.fact import CounterStep

GPU, PORT = "0000:04:00.0", "0000:00:02.0"
NOW = "RxErr 0\nBadTLP {bad}\nBadDLLP 0\nRollover 0\nTimeout {late}\nNonFatalErr 0\nHeaderOF 0\nTOTAL_ERR_COR 99\n"
"""drivers/pci/pcie/aer.c since Linux 5.1."""
OLD = "Receiver Error 2\nBad TLP 3\nReplay Timer Timeout 0\nTOTAL_ERR_COR 5\n"
"""Linux 4.19 and 5.0."""
FATAL = "Undefined 0\nDLP {dlp}\nSDES 0\nTOTAL_ERR_FATAL 7\n"


def write(root: Path, bdf: str, name: str, text: str) -> None:
    file = root / "sys/bus/pci/devices" / bdf / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_steps_between_two_readings(tmp_path: Path) -> None:
    write(tmp_path, GPU, "aer_dev_correctable", NOW.format(bad=3, late=0))
    write(tmp_path, PORT, "aer_dev_correctable", NOW.format(bad=0, late=5))
    write(tmp_path, PORT, "aer_dev_fatal", FATAL.format(dlp=0))
    before = counters.read_aer(tmp_path, [GPU, PORT, "0000:ff:00.0"])
    write(tmp_path, GPU, "aer_dev_correctable", NOW.format(bad=17, late=0))
    write(tmp_path, PORT, "aer_dev_correctable", NOW.format(bad=0, late=2))
    write(tmp_path, PORT, "aer_dev_fatal", FATAL.format(dlp=1))
    steps = list(counters.steps(before, counters.read_aer(tmp_path, [GPU, PORT])))
    assert steps == [
        CounterStep(bdf=GPU, counter="aer-correctable", which="BadTLP", before=3, after=17),
        CounterStep(bdf=PORT, counter="aer-fatal", which="DLP", before=0, after=1),
    ], "a counter that began anew (the port's Timeout) tells nothing, and the sums are no errors of their own"
    told, _ = counters.as_evidence(steps, source="aer", node="host", after_s=10.0, before_s=12.0)
    assert (told.kind, told.time_s, told.uncertainty_s, told.fact) == ("counter-step", 11.0, 1.0, steps[0])
    assert told.text == f"{GPU}: aer-correctable BadTLP went from 3 to 17 (+14)"


def test_names_with_blanks() -> None:
    assert counters.parse_aer(OLD) == {"Receiver Error": 2, "Bad TLP": 3, "Replay Timer Timeout": 0}


def test_a_device_that_is_gone_has_no_counters(tmp_path: Path) -> None:
    assert counters.read_aer(tmp_path, [GPU]) == {}
    write(tmp_path, GPU, "aer_dev_correctable", NOW.format(bad=9, late=0))
    assert list(counters.steps({}, counters.read_aer(tmp_path, [GPU]))) == [], "it may have been 9 all the time"


@given(st.text())
def test_any_file_is_read(text: str) -> None:
    assert all(count >= 0 for count in counters.parse_aer(text).values())


KEYS = st.builds(Key, bdf=st.sampled_from([GPU, PORT]), counter=st.just("aer-fatal"), which=st.sampled_from("ab"))
READINGS = st.dictionaries(KEYS, st.integers(0, 5))


@given(READINGS, READINGS)
def test_a_step_is_up_and_between_known_values(before: dict[Key, int], after: dict[Key, int]) -> None:
    found = {Key(one.bdf, one.counter, one.which): one for one in counters.steps(before, after)}
    for key in {*before, *after}:
        up = key in before and key in after and after[key] > before[key]
        assert (key in found) == up
        if up:
            assert found[key].step == after[key] - before[key] > 0


def test_steps_that_follow_each_other_are_one() -> None:
    one = CounterStep(bdf=GPU, counter="pcie-replay", before=1, after=4)
    two = CounterStep(bdf=GPU, counter="pcie-replay", before=4, after=9)
    other = CounterStep(bdf=PORT, counter="pcie-replay", before=0, after=2)
    assert counters.merged([one, other, two]) == (
        CounterStep(bdf=GPU, counter="pcie-replay", before=1, after=9),
        other,
    )
