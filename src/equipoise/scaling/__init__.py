"""How much of each: laws of losses, the mixtures that follow, schedules, transfer of hyper-parameters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
