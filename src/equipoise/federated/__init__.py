"""Many clients, one model: client and server parts of federated systems, and a simulator for them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
