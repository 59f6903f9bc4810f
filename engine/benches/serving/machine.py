#!/usr/bin/env python3
"""What the machine does beside and beneath a measurement: how fast two threads read memory, and how much of the
processors others took meanwhile. Linux with glibc; nothing from PyPI.

    python3 machine.py [CPU CPU]      prints the read bandwidth of two processors
"""
import ctypes
import mmap
import os
import sys
import threading
import time

# Far above any cache, so that what is read comes from memory.
BYTES = 1 << 30
# A reading is the fastest of so many passes: what the memory can do, not what it did on average.
PASSES = 3
TICK = os.sysconf("SC_CLK_TCK")


class Memory:
    """A buffer that two pinned threads read with libc's `memchr`, which looks at every byte for one that is not there
    and does so in the widest registers that the processor has."""

    def __init__(self, cpus):
        self.cpus = cpus
        self.buffer = mmap.mmap(-1, BYTES)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.buffer.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        # Pages that were never written all stand for the same page of zeros.
        ctypes.memset(self.address, 1, BYTES)
        self.memchr = ctypes.CDLL(None).memchr
        self.memchr.argtypes, self.memchr.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], ctypes.c_void_p

    def read(self):
        """Bytes a second."""
        share, best = BYTES // len(self.cpus), 0.0
        for _ in range(PASSES):
            gate, spans = threading.Barrier(len(self.cpus)), []

            def work(number, cpu):
                os.sched_setaffinity(0, [cpu])
                gate.wait()
                began = time.perf_counter()
                if self.memchr(self.address + number * share, 2, share):
                    raise AssertionError("the buffer holds a byte that nobody wrote")
                spans.append((began, time.perf_counter()))

            threads = [threading.Thread(target=work, args=pair) for pair in enumerate(self.cpus)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            best = max(best, BYTES / (max(end for _, end in spans) - min(begin for begin, _ in spans)))
        return best


def processor_seconds(pid):
    """What a process has used so far, its threads included."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds():
    """What all processors have worked so far for anybody, with what a hypervisor gave to others."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


class Watch:
    """How much of the machine others used between two moments, as a share of two processors."""

    def __init__(self, *pids):
        self.pids = pids
        self.began, self.busy, self.own = time.monotonic(), busy_seconds(), self.used()

    def used(self):
        return sum(map(processor_seconds, self.pids))

    def others(self):
        foreign = busy_seconds() - self.busy - (self.used() - self.own)
        return max(0.0, foreign / (2 * max(1e-9, time.monotonic() - self.began)))


if __name__ == "__main__":
    memory = Memory([int(cpu) for cpu in sys.argv[1:3]] or [0, 1])
    print(" ".join(f"{memory.read() / 1e9:.1f}" for _ in range(5)), "GB/s")
