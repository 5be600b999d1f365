"""Figures beside a baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dmaproof.triage.expectation import baseline
from dmaproof.triage.expectation.baseline import Baselines, Setting
from tests.triage.expectation.figures import figure, host_copy, matrix, node

REAL = Setting("host", "595.45.04")
WHEN = "2026-11-20T10:00:00.000+00:00"


def known(setting: Setting = REAL) -> Baselines:
    made = baseline.entries(node(), matrix(node()), setting, WHEN, {"driver": setting.driver or ""})
    return {one.key: one for one in made}


def test_an_entry_has_median_spread_and_number() -> None:
    (entry,) = known().values()
    assert entry.median == pytest.approx(397.0, rel=0.005)
    assert entry.n == 56
    assert entry.least < 397.0 < entry.most
    assert (entry.key.product, entry.key.branch, entry.key.topology) == ("NVIDIA H100 80GB HBM3", "595", "nvlink")


def test_a_regression_beyond_the_spread() -> None:
    slow = baseline.judge(node(), figure("gpu0", "gpu1", 300.0), REAL, known())
    assert slow is not None
    assert (slow.standing, slow.certain, slow.among) == ("low", True, 56)
    fine = baseline.judge(node(), figure("gpu0", "gpu1", 380.0), REAL, known())
    assert fine is not None
    assert (fine.standing, fine.certain) == ("fine", False)


def test_a_wide_baseline_grants_its_own_spread() -> None:
    (entry,) = known().values()
    wide = {entry.key: replace(entry, least=200.0, most=400.0)}
    found = baseline.judge(node(), figure("gpu0", "gpu1", 300.0), REAL, wide)
    assert found is not None
    assert found.standing == "fine"


@pytest.mark.parametrize(
    "setting", [Setting("virtual", "595.45.04"), Setting("host", "580.95.05"), Setting("host", None)]
)
def test_another_kind_of_rig_or_driver_has_no_baseline(setting: Setting) -> None:
    assert baseline.judge(node(), figure("gpu0", "gpu1", 10.0), setting, known()) is None


def test_another_product_way_or_setting_has_no_baseline() -> None:
    other = node()
    gpus = {name: gpu.model_copy(update={"product": "NVIDIA H200"}) for name, gpu in other.gpu.items()}
    assert baseline.judge(other.model_copy(update={"gpu": gpus}), figure("gpu0", "gpu1", 10.0), REAL, known()) is None
    assert baseline.judge(node(), host_copy("gpu0", 10.0), REAL, known()) is None
    assert baseline.judge(node(), figure("gpu0", "gpu1", 10.0, nbytes=4096), REAL, known()) is None


def test_a_minor_version_of_the_driver_is_the_same_branch() -> None:
    assert baseline.judge(node(), figure("gpu0", "gpu1", 10.0), Setting("host", "595.71"), known()) is not None
