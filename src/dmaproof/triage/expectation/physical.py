"""A figure beside what its link can carry: above that the measurement is wrong; and a link that trained to less."""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.triage.expectation import rates
from dmaproof.triage.expectation.figure import Figure, Judgement, Trained
from dmaproof.triage.expectation.place import Place
from dmaproof.triage.expectation.rates import Rate

TIMER = 1.01
"""Device events tick by half a microsecond, over samples of milliseconds: a rate may come out this much too high."""
_BANDWIDTH = "bandwidth_GBps"


def judge(node: Node, figure: Figure, place: Place) -> Judgement | None:
    """None where the link's rate is not known, and for what is no rate of one link.

    It is fine up to the rate of the link; below it, whether that is enough is for other standards, unless a PCIe link
    that the figure went over trained to fewer lanes than it should have.
    """
    if figure.name != _BANDWIDTH or figure.unit != "GB/s":
        return None
    most = ceiling(node, figure, place)
    if most is None:
        return None
    if figure.value > most.most * TIMER:
        return _too_high(node, figure, place, most)
    for name, link in figure.trained.items():
        if (short := _degraded(node, name, link)) is not None:
            carries = f"the PCIe link of {name} runs at {link}, and carries {short.most:.1f} GB/s at most"
            return Judgement(
                figure=figure, by="physical", standing="low", topology=place.text, certain=True, reason="degraded-link",
                against=most.most, bound=most.most, looked_at=(f"PCIe link of {name}: {link}",),
                text=f"{figure.told}: {carries}",
            )  # fmt: skip
    share = f"{figure.value / most.most:.0%} of the {most.most:.4g} GB/s that {most.why} carries at most"
    return Judgement(
        figure=figure, by="physical", standing="fine", topology=place.text, against=most.most,
        bound=most.most, text=f"{figure.told}: {share}",
    )  # fmt: skip


def _too_high(node: Node, figure: Figure, place: Place, most: Rate) -> Judgement:
    """What a guest is shown of its links may be emulated, and a link that nobody looked at is the rig's word."""
    seen = node.role == "host" and (place.kind != "pcie" or bool(figure.trained))
    return Judgement(
        figure=figure, by="physical", standing="high", topology=place.text, certain=seen, reason="wrong-measurement",
        against=most.most, bound=most.most * TIMER, looked_at=(most.why,),
        text=f"{figure.told} is more than {most.why} carries ({most.most:.4g} GB/s at most): the measurement is wrong, "
        "or bytes went another way",
    )  # fmt: skip


def ceiling(node: Node, figure: Figure, place: Place) -> Rate | None:
    """What the narrowest link on the way carries at most."""
    gpus = [node.gpu[name] for name in figure.gpus]
    if place.kind == "local":
        large = (figure.nbytes or 0) >= rates.LEAST_LOCAL_NBYTES
        return rates.local_copy(gpus[0]) if large else None
    if place.kind == "c2c":
        return rates.c2c()
    if place.kind == "nvlink":
        return _least(rates.nvlink(gpu, gpu.nvlinks) for gpu in gpus)
    if place.kind == "pcie":
        return _least(_pcie(figure.trained.get(gpu.name), gpu) for gpu in gpus)
    return None


def _pcie(seen: Trained | None, gpu: Gpu) -> Rate | None:
    """At rest a link runs at a lower generation, and nobody saw it at work: the generation that it offers counts."""
    generation = max((seen.generation or 0, seen.offered_generation or 0)) if seen is not None else 0
    width = (seen.width if seen is not None else None) or 0
    if gpu.pcie is not None:
        generation, width = generation or gpu.pcie.generation, width or gpu.pcie.width
    return rates.pcie(generation, width)


def _least(found: Iterable[Rate | None]) -> Rate | None:
    """None where one of them is not known: it may be the least."""
    every = list(found)
    known = [one for one in every if one is not None]
    return min(known, key=lambda one: one.most) if known and len(known) == len(every) else None


def _degraded(node: Node, name: str, link: Trained) -> Rate | None:
    """What the link carries, if it has fewer lanes than it should; lanes do not sleep. A lower generation may be rest:
    it is a reason, where another standard finds the figure low, but none to find it."""
    gpu = node.gpu.get(name)
    declared = gpu.pcie.width if gpu is not None and gpu.pcie is not None else None
    wanted = declared or link.offered_width
    if not link.width or not wanted or link.width >= wanted:
        return None
    return rates.pcie(link.generation or link.offered_generation or 0, link.width)
