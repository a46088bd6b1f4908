"""Scores of source models for a target, from one forward pass, with the plain baselines beside them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
