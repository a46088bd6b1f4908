"""One model from many checkpoints: rules over tensors, streamed, and fronts of trade-offs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
