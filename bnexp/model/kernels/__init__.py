"""Kernels for the CPU, compiled by numba when they are first needed.

``pooling.py``      operations for torch: max pooling and ReLU, alone or behind a convolution; where there are kernels
``normalising.py``  an operation for torch: batch normalisation in training
``loops.py``        what is compiled of convolution and pooling: both directions, and what they do with vectors in registers
``pool_loops.py``   what is compiled of pooling alone
``norm_loops.py``   what is compiled of batch normalisation
``compiling.py``    numba, its cache, and what is said while it compiles
"""
