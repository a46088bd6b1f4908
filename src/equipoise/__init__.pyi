from . import aggregation as aggregation
from . import problems as problems
from . import scalarization as scalarization
from . import testing as testing
from .core.accumulate import Accumulator as Accumulator
from .core.backward import backward as backward
from .core.bundle import Bundle as Bundle
from .core.collect import gradients as gradients
from .core.collect import gramian as gramian
from .core.continual import Evaluations as Evaluations
from .core.diagnose import diagnose as diagnose
from .core.errors import NonFiniteDirection as NonFiniteDirection
from .core.errors import VerificationFailed as VerificationFailed
from .core.preferred import Preferred as Preferred
from .core.problem import Metric as Metric
from .core.problem import Problem as Problem
from .core.quadratic import QuadraticFront as QuadraticFront
from .core.rule import GramianRule as GramianRule
from .core.rule import RowRule as RowRule
from .core.rule import RowTransform as RowTransform
from .core.rule import Scalarizer as Scalarizer
from .core.samples import sample_gradients as sample_gradients
from .core.step import Step as Step
from .core.taskvectors import task_vectors as task_vectors
from .core.twobatches import TwoBatches as TwoBatches
from .core.twobatches import pair as pair

__version__: str
