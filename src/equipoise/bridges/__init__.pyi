from .torchjd import from_torchjd as from_torchjd
from .torchjd import to_torchjd as to_torchjd
