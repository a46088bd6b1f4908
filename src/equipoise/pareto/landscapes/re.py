"""RE: engineering designs whose objectives fit in a line; those of the suite with continuous variables.

The last objective of most is the sum of what a design violates. x is the design as shares of its box, so that
one step size suits all variables; `design` says what it is in its own units. Objectives come in their own
units too and differ by orders of magnitude. Of most the Pareto set is not known in closed form.

Source: Tanabe and Ishibuchi 2020, "An easy-to-use real-world multi-objective optimization problem suite",
Applied Soft Computing 89. Left out are the problems with whole-numbered or listed variables (RE22, RE23,
RE25, RE35, RE36), RE91, which draws noise, and RE42, whose unit cost passes through 1/0 in its box.
"""

from abc import abstractmethod
from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from equipoise.pareto.landscapes.analytic import Analytic, whole


class RE(Analytic):
    """A design in a box, from `least` to `most`; a subclass has the formula."""

    def __init__(self, least: Sequence[float], most: Sequence[float], m: int) -> None:
        super().__init__(*whole(len(least)), m)
        self.least = torch.tensor(least, dtype=torch.float64)
        self.most = torch.tensor(most, dtype=torch.float64)

    def design(self, x: Tensor) -> Tensor:  # (..., d) -> (..., d)
        """The variables in their own units."""
        return self.least + x * (self.most - self.least)

    def values(self, x: Tensor) -> Tensor:  # (..., d) -> (..., m)
        return torch.stack(list(self.formula(self.design(x).unbind(-1))), -1)

    @abstractmethod
    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        """The m objectives of the d variables."""


def violation(*margins: Tensor) -> Tensor:
    """The sum of what is negative in the margins of some constraints."""
    return sum((torch.relu(-margin) for margin in margins), torch.zeros_like(margins[0]))


class RE21(RE):
    """Four-bar truss: volume, displacement of the joint. The Pareto set is known.

    >>> RE21().values(torch.zeros(4, dtype=torch.float64)).round(decimals=3).tolist()
    [1237.841, 0.04]
    """

    def __init__(self) -> None:
        super().__init__([1.0, sqrt(2), sqrt(2), 1.0], [3.0] * 4, 2)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        a, b, c, d = design
        volume = 200 * (2 * a + sqrt(2) * b + c.sqrt() + d)
        return volume, 0.01 * (2 / a + 2 * sqrt(2) / b - 2 * sqrt(2) / c + 2 / d)

    def curve(self, n: int) -> Tensor:
        """Both grow with the third bar, which is least. They are convex in the others, which for a ratio r of
        weights solve 2 = 2 r / a^2, sqrt(2) = 2 sqrt(2) r / b^2, 1 = 2 r / d^2, cut to the box."""
        root = torch.linspace(1 / sqrt(2), 3.0, n, dtype=torch.float64)
        bars = torch.stack([root, sqrt(2) * root, torch.full_like(root, sqrt(2)), sqrt(2) * root], 1)
        cut = torch.minimum(torch.maximum(bars, self.least), self.most)
        return (cut - self.least) / (self.most - self.least)


class RE24(RE):
    """Hatch cover: weight, violation."""

    def __init__(self) -> None:
        super().__init__([0.5, 0.5], [4.0, 50.0], 2)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        flange, beam = design
        buckling = 7000 * flange**2
        bending, shear = 4500 / (flange * beam), 1800 / beam
        deflection = 562_000 / (700_000 * flange * beam**2)
        margins = (1 - bending / 700, 1 - shear / 450, 1 - deflection / 1.5, 1 - bending / buckling)
        return flange + 120 * beam, violation(*margins)


class RE31(RE):
    """Two-bar truss: volume, stress, violation."""

    def __init__(self) -> None:
        super().__init__([1e-5, 1e-5, 1.0], [100.0, 100.0, 3.0], 3)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        a, b, y = design
        left, right = torch.sqrt(16 + y**2), torch.sqrt(1 + y**2)
        volume, stress = a * left + b * right, 20 * left / (a * y)
        return volume, stress, violation(0.1 - volume, 1e5 - stress, 1e5 - 80 * right / (y * b))


class RE32(RE):
    """Welded beam: cost, deflection of the end, violation."""

    def __init__(self) -> None:
        super().__init__([0.125, 0.1, 0.1, 0.125], [5.0, 10.0, 10.0, 5.0], 3)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        weld, length, height, width = design
        load, arm, young, shear = 6000.0, 14.0, 30e6, 12e6
        cost = 1.10471 * weld**2 * length + 0.04811 * height * width * (14 + length)
        deflection = 4 * load * arm**3 / (young * width * height**3)
        half = ((weld + height) / 2) ** 2
        radius = torch.sqrt(length**2 / 4 + half)
        polar = 2 * sqrt(2) * weld * length * (length**2 / 12 + half)
        first = load / (sqrt(2) * weld * length)
        second = load * (arm + length / 2) * radius / polar
        stress = torch.sqrt(first**2 + first * second * length / radius + second**2)
        bending = 6 * load * arm / (width * height**2)
        buckling = 4.013 * young * height * width**3 / 6 / arm**2
        buckling = buckling * (1 - height / (2 * arm) * sqrt(young / (4 * shear)))
        margins = (13_600 - stress, 30_000 - bending, width - weld, buckling - load)
        return cost, deflection, violation(*margins)


class RE33(RE):
    """Disc brake: mass, stopping time, violation."""

    def __init__(self) -> None:
        super().__init__([55.0, 75.0, 1000.0, 11.0], [80.0, 110.0, 3000.0, 20.0], 3)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        inner, outer, force, discs = design
        squares, cubes = outer**2 - inner**2, outer**3 - inner**3
        mass = 4.9e-5 * squares * (discs - 1)
        time = 9.82e6 * squares / (force * discs * cubes)
        margins = (
            outer - inner - 20,
            0.4 - force / (3.14 * squares),
            1 - 2.22e-3 * force * cubes / squares**2,
            2.66e-2 * force * discs * cubes / squares - 900,
        )
        return mass, time, violation(*margins)


class RE34(RE):
    """Crashworthiness of a vehicle: mass, acceleration, intrusion into the toe board; fitted polynomials."""

    def __init__(self) -> None:
        super().__init__([1.0] * 5, [3.0] * 5, 3)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        a, b, c, d, e = design
        mass = 1640.2823 + 2.3573285 * a + 2.3220035 * b + 4.5688768 * c + 7.7213633 * d + 4.4559504 * e
        acceleration = (
            6.5856 + 1.15 * a - 1.0427 * b + 0.9738 * c + 0.8364 * d - 0.3695 * a * d + 0.0861 * a * e
        )
        acceleration = acceleration + 0.3628 * b * d - 0.1106 * a**2 - 0.3437 * c**2 + 0.1764 * d**2
        intrusion = -0.0551 + 0.0181 * a + 0.1024 * b + 0.0421 * c - 0.0073 * a * b + 0.024 * b * c
        intrusion = (
            intrusion - 0.0118 * b * d - 0.0204 * c * d - 0.008 * c * e - 0.0241 * b**2 + 0.0109 * d**2
        )
        return mass, acceleration, intrusion


class RE37(RE):
    """Rocket injector: temperature of the face, distance from the inlet, temperature of the tip."""

    def __init__(self) -> None:
        super().__init__([0.0] * 4, [1.0] * 4, 3)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        angle, hydrogen, oxygen, post = design
        a, h, o, p = angle, hydrogen, oxygen, post
        face = 0.692 + 0.477 * a - 0.687 * h - 0.080 * o - 0.0650 * p - 0.167 * a**2 - 0.0129 * h * a
        face = face + 0.0796 * h**2 - 0.0634 * o * a - 0.0257 * o * h + 0.0877 * o**2 - 0.0521 * p * a
        face = face + 0.00156 * p * h + 0.00198 * p * o + 0.0184 * p**2
        reach = 0.153 - 0.322 * a + 0.396 * h + 0.424 * o + 0.0226 * p + 0.175 * a**2 + 0.0185 * h * a
        reach = reach - 0.0701 * h**2 - 0.251 * o * a + 0.179 * o * h + 0.0150 * o**2 + 0.0134 * p * a
        reach = reach + 0.0296 * p * h + 0.0752 * p * o + 0.0192 * p**2
        tip = 0.370 - 0.205 * a + 0.0307 * h + 0.108 * o + 1.019 * p - 0.135 * a**2 + 0.0141 * h * a
        tip = tip + 0.0998 * h**2 + 0.208 * o * a - 0.0301 * o * h - 0.226 * o**2 + 0.353 * p * a
        tip = tip - 0.0497 * p * o - 0.423 * p**2 + 0.202 * h * a**2 - 0.281 * o * a**2 - 0.342 * h**2 * a
        tip = tip - 0.245 * h**2 * o + 0.281 * o**2 * h - 0.184 * p**2 * a - 0.281 * h * a * o
        return face, reach, tip


class RE41(RE):
    """Side impact on a car: weight, force on the pelvis, speed of the pillars, violation."""

    def __init__(self) -> None:
        super().__init__([0.5, 0.45, 0.5, 0.5, 0.875, 0.4, 0.4], [1.5, 1.35, 1.5, 1.5, 2.625, 1.2, 1.2], 4)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        a, b, c, d, e, f, g = design
        weight = 1.98 + 4.9 * a + 6.67 * b + 6.98 * c + 4.01 * d + 1.78 * e + 1e-5 * f + 2.73 * g
        pelvis = 4.72 - 0.5 * d - 0.19 * b * c
        pillar, door = 10.58 - 0.674 * a * b - 0.67275 * b, 16.45 - 0.489 * c * g - 0.843 * e * f
        abdomen = 1.16 - 0.3717 * b * d - 0.0092928 * c
        upper = 0.261 - 0.0159 * a * b - 0.06486 * a - 0.019 * b * g + 0.0144 * c * e + 0.0154464 * f
        middle = 0.214 + 0.00817 * e - 0.0587118 * a + 0.03099 * b * f - 0.018 * b * g + 0.030408 * c
        middle = middle - 0.00364 * e * f - 0.018 * b**2
        lower = 0.74 - 0.61 * b - 0.031296 * c - 0.031872 * g + 0.227 * b**2
        ribs = (
            28.98 + 3.818 * c - 4.2 * a * b + 1.27296 * f - 2.68065 * g,
            35.31728 + 2.95 * c - 5.057 * a * b - 3.795 * b - 3.4431 * g,
            46.36 - 9.9 * b - 4.4505 * a,
        )
        margins = [1 - abdomen, 0.32 - upper, 0.32 - middle, 0.32 - lower, *(32 - rib for rib in ribs)]
        margins += [4 - pelvis, 9.9 - pillar, 15.7 - door]
        return weight, pelvis, (pillar + door) / 2, violation(*margins)


class RE61(RE):
    """Storm drainage of a town: five costs, violation."""

    def __init__(self) -> None:
        super().__init__([0.01] * 3, [0.45, 0.10, 0.10], 6)

    def formula(self, design: Sequence[Tensor]) -> Sequence[Tensor]:
        storage, treatment, overflow = design
        t, o, inverse = treatment, overflow, 1 / (storage * treatment)
        costs = (
            106_780.37 * (t + o) + 61_704.67,
            3000 * storage,
            305_700 * 2289 * t / (0.06 * 2289) ** 0.65,
            250 * 2289 * torch.exp(-39.75 * t + 9.9 * o + 2.74),
            25 * (1.39 * inverse + 4940 * o - 80),
        )
        margins = (
            1 - (0.00139 * inverse + 4.94 * o - 0.08),
            1 - (0.000306 * inverse + 1.082 * o - 0.0986),
            50_000 - (12.307 * inverse + 49_408.24 * o + 4051.02),
            16_000 - (2.098 * inverse + 8046.33 * o - 696.71),
            10_000 - (2.138 * inverse + 7883.39 * o - 705.04),
            2000 - (0.417 * storage * treatment + 1721.26 * o - 136.54),
            550 - (0.164 * inverse + 631.13 * o - 54.48),
        )
        return *costs, violation(*margins)
