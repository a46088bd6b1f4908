"""Flower: the systems of the room federated on its SuperLink and SuperNodes; the extra is `federated`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
