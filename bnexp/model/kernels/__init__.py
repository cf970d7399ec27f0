"""Kernels for the CPU, compiled by numba when they are first needed: a convolution and the max pooling that follows it.

``pooling.py``    the operation for torch, and where there are kernels for it
``loops.py``      what is compiled: the loops of both directions, and what they do with vectors in registers
``compiling.py``  numba, its cache, and what is said while it compiles
"""
