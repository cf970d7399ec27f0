"""Starts the server that worker processes are forked from. The sooner it is called, the sooner workers are ready.

Nothing heavy is imported here, so that ``bnexp study`` can begin with it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.context import BaseContext
from types import ModuleType

from bnexp.interrupt import shielded

FORK_SERVER = "bnexp.run.fork_server"
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PARENT = "BNEXP_SERVER_OF"  # environment variable that tells the server the process that it ends with


def prepare_workers() -> None:
    """If the CPU is going to train, start loading torch for the worker processes while the caller goes on."""
    if not has_driver():
        start_pool_server()


def start_pool_server() -> BaseContext:
    """Get the context that worker processes are started from.

    On Linux one server process imports torch and numba and is then forked into each worker, so they are loaded only once. A
    second call finds that server running. On other systems it is not safe to fork a process that has loaded such libraries, so
    each worker imports them itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([FORK_SERVER])
    resource_tracker.ensure_running()  # before the shielded block, because starting it unblocks Ctrl-C
    with shielded(), single_threaded(), variables({PARENT: str(os.getpid())}), without_main():
        forkserver.ensure_running()
    return context


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent process ends. Only Linux can; elsewhere nothing changes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def has_driver() -> bool:
    """Whether this machine has a GPU, asked without importing torch."""
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def single_threaded() -> AbstractContextManager[None]:
    """Processes that are started inside use one OpenMP and one MKL thread."""
    return variables({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started inside have these environment variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def without_main() -> Iterator[None]:
    """Processes started inside do not run the program again that asks for them.

    Python has each new process import the main module, for the functions in it. Workers need only bnexp's own. A user's script
    without ``if __name__ == "__main__"`` would start its studies anew in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
