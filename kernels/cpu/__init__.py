"""Native kernels for float32 on the CPU: C++ behind a plain C interface, see ``src/streamdrnn_cpu.h``.

Every output's arithmetic has one fixed order, whatever the chunk and whichever rows are beside it: results are the same
bits however a sequence is cut. The library is optional: :func:`why_not` says why it cannot be used.
"""

from streamdrnn.kernels.cpu.library import why_not
from streamdrnn.kernels.cpu.linear import linear
from streamdrnn.kernels.cpu.processor import fma_peak, level, levels, use_level
from streamdrnn.kernels.cpu.stack import stack
from streamdrnn.kernels.cpu.stream import CPUStream

__all__ = ["CPUStream", "fma_peak", "level", "levels", "linear", "stack", "use_level", "why_not"]
