"""Solvers that trace the trade-offs between objectives, and test problems whose fronts are known."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
