from .jsonlines import JSONLines as JSONLines
from .mlflow import MLflow as MLflow
from .tensorboard import TensorBoard as TensorBoard
from .torchjd import from_torchjd as from_torchjd
from .torchjd import to_torchjd as to_torchjd
from .tracker import Tracker as Tracker
from .trackio import Trackio as Trackio
from .wandb import Wandb as Wandb
