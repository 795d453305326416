"""How dilated recurrent layers are computed: tensors in, tensors out, one folder per way.

``backend`` is what every way offers, ``registry`` has them all and chooses. ``reference`` is the specification,
``pytorch`` folds the phases into the batch, ``cpu`` is native code, ``gpu`` Triton.
"""

from streamdrnn.kernels.autocast import without_autocast
from streamdrnn.kernels.backend import Backend, Rings, Runtime, StackResult, Stream
from streamdrnn.kernels.cells import CELLS, Cell, cell_named
from streamdrnn.kernels.registry import (
    BACKEND_NAMES,
    BACKENDS,
    Availability,
    available,
    check_backend,
    dilated_layer,
    resolve,
)
from streamdrnn.kernels.weights import AS_THEY_ARE, HELD, FusionWeights, Weights, check_held, refuse_narrow, weights_in

__all__ = [
    "AS_THEY_ARE",
    "BACKENDS",
    "BACKEND_NAMES",
    "CELLS",
    "HELD",
    "Availability",
    "Backend",
    "Cell",
    "FusionWeights",
    "Rings",
    "Runtime",
    "StackResult",
    "Stream",
    "Weights",
    "available",
    "cell_named",
    "check_backend",
    "check_held",
    "dilated_layer",
    "refuse_narrow",
    "resolve",
    "weights_in",
    "without_autocast",
]
