from .clientapp import Parts as Parts
from .clientapp import client_app as client_app
from .clientapp import client_app_from as client_app_from
from .serverrun import NoQuorum as NoQuorum
from .simulation import run_on_flower as run_on_flower
from .strategy import Strategy as Strategy
