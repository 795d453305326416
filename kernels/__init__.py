"""How one dilated recurrent layer is computed: tensors in, tensors out, one folder or file per way.

``reference`` is the specification, ``pytorch`` folds the phases into the batch, ``cpu`` is native code, ``gpu`` Triton,
``dispatch`` chooses.
"""

from streamdrnn.kernels.dispatch import (
    BACKENDS,
    GATES,
    Availability,
    available,
    cell_step,
    check_backend,
    dilated_layer,
    linear,
    resolve,
    stack,
    without_autocast,
)
from streamdrnn.kernels.weights import Weights

__all__ = [
    "BACKENDS",
    "GATES",
    "Availability",
    "Weights",
    "available",
    "cell_step",
    "check_backend",
    "dilated_layer",
    "linear",
    "resolve",
    "stack",
    "without_autocast",
]
