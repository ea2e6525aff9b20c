"""The networks that Scanside trains; one forward pass gives everything that a bundle's graph gives."""

from export.architectures.ensemble import Ensemble, Member, build, member, output_names
from export.architectures.grid import GRID_STEPS, on_grid, rounded_weights, snap_weights
from export.architectures.weights import WeightsError, load_state, load_weights

__all__ = [
    "GRID_STEPS",
    "Ensemble",
    "Member",
    "WeightsError",
    "build",
    "load_state",
    "load_weights",
    "member",
    "on_grid",
    "output_names",
    "rounded_weights",
    "snap_weights",
]
