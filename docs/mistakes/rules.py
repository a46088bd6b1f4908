"""Rules and options of `backward` that do not fit."""

import torch
from docs.mistakes.making import mistake
from docs.mistakes.training import losses

import equipoise
from equipoise.aggregation import MGDA, CAGrad, Mean, UPGrad
from equipoise.scalarization import DWA, FAMO, Linear

RULES, OPTIONS = "Rules", "Options of backward"


@mistake(RULES)
def _() -> None:
    """A class in place of a rule"""
    equipoise.backward(losses(), UPGrad)


@mistake(RULES)
def _() -> None:
    """The name of a rule in place of a rule"""
    equipoise.backward(losses(), "UPGrad")


@mistake(RULES)
def _() -> None:
    """A rule of one's own that gives too many weights"""

    class Wrong(equipoise.GramianRule):
        def forward(self, gramian):
            return torch.ones(3)

    equipoise.backward(losses(), Wrong())


@mistake(RULES)
def _() -> None:
    """A rule of one's own that gives what is not finite"""

    class Wrong(equipoise.GramianRule):
        def forward(self, gramian):
            return torch.full((2,), float("inf"))

    equipoise.backward(losses(), Wrong())


@mistake(RULES)
def _() -> None:
    """A scalariser of one's own that gives several losses"""

    class Wrong(equipoise.Scalarizer):
        def forward(self, losses):
            return losses

    equipoise.backward(losses(), Wrong())


@mistake(RULES)
def _() -> None:
    """FAMO without the losses after the step"""
    rule = FAMO()
    rule.update(equipoise.backward(losses(), rule))


@mistake(RULES)
def _() -> None:
    """The state of another rule"""
    FAMO().load_state_dict(DWA().state_dict())


@mistake(RULES)
def _() -> None:
    """An option out of range"""
    CAGrad(c=-1)


@mistake(OPTIONS)
def _() -> None:
    """A preference for an objective that does not exist"""
    equipoise.backward(losses(), UPGrad(), preference={"left": 1, "rihgt": 2})


@mistake(OPTIONS)
def _() -> None:
    """A preference of another length"""
    equipoise.backward(losses(), UPGrad(), preference=[1, 2, 3])


@mistake(OPTIONS)
def _() -> None:
    """A negative preference"""
    equipoise.backward(losses(), Linear(), preference=[1, -1])


@mistake(OPTIONS)
def _() -> None:
    """A preference for a rule that takes none"""
    equipoise.backward(losses(), MGDA(), preference=[1, 2])


@mistake(OPTIONS)
def _() -> None:
    """Layers without the names of parameters"""
    equipoise.backward(losses(), UPGrad(), groups="layer")


@mistake(OPTIONS)
def _() -> None:
    """Options that do not go together"""
    equipoise.backward(losses(), UPGrad(), gramian="sketch", weights_every=10)


@mistake(OPTIONS)
def _() -> None:
    """A choice that does not exist"""
    equipoise.backward(losses(), UPGrad(), on_nonfinite="ignore")


@mistake(OPTIONS)
def _() -> None:
    """An amount of memory that cannot be read"""
    equipoise.backward(losses(), UPGrad(), max_memory="2 gigs")


@mistake(OPTIONS)
def _() -> None:
    """Micro-batches with other objectives"""
    accumulator = equipoise.Accumulator(Mean())
    accumulator.add(losses())
    accumulator.add({"left": losses()["left"]})


@mistake(OPTIONS)
def _() -> None:
    """Something that is no observer"""
    equipoise.backward(losses(), UPGrad(), observers=[print])
