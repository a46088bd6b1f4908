"""Problems and federations: what is trained, built in on real data or read from a user's file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
