"""The benchmark on an NVIDIA GPU.

Nothing here needs one but :func:`streamdrnn.apps.bench.cuda.target.gpu`: all else runs on any :class:`Target`.
"""
