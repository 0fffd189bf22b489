"""Freed memory is used again instead of being mapped and zeroed anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from segframe.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else False)
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word, **environment):
    # Without huge pages, of which one fault brings 2 MiB.
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], env=environment, capture_output=True, text=True, check=True
    )
    was_set, faults = done.stdout.split()
    return was_set == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_blocks_are_used_again_unless_the_environment_says_otherwise():
    was_set, kept = page_faults("keep")
    assert was_set
    was_set, given_back = page_faults("leave")
    assert not was_set
    assert given_back > 10 * 2**26 // os.sysconf("SC_PAGE_SIZE") // 2
    assert kept < given_back / 50
    was_set, own = page_faults("keep", MALLOC_MMAP_THRESHOLD_="100000")
    assert not was_set
    assert own > 20 * kept
