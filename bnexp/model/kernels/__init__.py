"""Kernels for the CPU, compiled by numba when they are first needed: a convolution and the max pooling that follows it.

``pooling.py``   the operation for torch, and when it can be used
``compiled.py``  what is compiled: vectors in registers, and the loops of both directions
"""
