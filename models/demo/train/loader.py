"""Scenes from worker processes into a pool on the GPU.

Each worker owns some slots of one shared anonymous mapping; a slot holds a few scenes with their rows.
Worker: wait until the slot's flag is 0, fill, set 1. Trainer: copy every slot with flag 1 into the
pool's oldest places, set 0. No locks: each flag has one writer at a time. Training draws from the pool
at random, so the GPU never waits for the workers; a scene is seen more than once if they are slower.
"""
import mmap
import os
import time
from random import Random

import numpy as np
import torch

import pack

PER_SLOT = 8
VARIANTS = 3  # rows a scene, each with its own order of conversations


class Layout:
    """What a slot holds: u8 pictures, and int16 short and long rows."""

    def __init__(self, image_size: int, width: int, long_width: int):
        self.image_size, self.width, self.long_width = image_size, width, long_width
        self.shapes = {
            "images": ((PER_SLOT, image_size, image_size, 3), np.uint8),
            "short": ((PER_SLOT, VARIANTS, 4, width), np.int16),
            "long": ((PER_SLOT, 4, long_width), np.int16),
        }
        self.bytes = sum(int(np.prod(s)) * np.dtype(t).itemsize for s, t in self.shapes.values())

    def views(self, buffer) -> dict[str, np.ndarray]:
        out, at = {}, 0
        for name, (shape, dtype) in self.shapes.items():
            n = int(np.prod(shape))
            out[name] = np.frombuffer(buffer, dtype, n, at).reshape(shape)
            at += n * np.dtype(dtype).itemsize
        return out


def fill(views, scenes, coder, layout, random, weigh) -> None:
    """Fills one slot from a generator of scenes."""
    for k in range(PER_SLOT):
        scene = scenes.scene()
        # The picture costs most, so it is asked about twice over.
        conversations = scene.conversations + scenes._talk(scene.facts, scene.kind)
        shown = [c for c in conversations if c.picture]
        bare = [c for c in conversations if not c.picture]
        views["images"][k] = scene.image
        for v in range(VARIANTS):
            views["short"][k, v] = pack.short_row(coder, layout.width, shown, bare, random, weigh).lines
        views["long"][k] = pack.long_row(coder, layout.long_width, shown, random, weigh).lines


class Workers:
    """Forked producers; start them before CUDA is touched."""

    def __init__(self, count: int, slots_each: int, layout: Layout, make_generator, coder, weigh, seed: int):
        self.layout, slots = layout, count * slots_each
        self.memory = mmap.mmap(-1, slots * layout.bytes)
        self.flag_memory = mmap.mmap(-1, slots)
        self.flags = np.frombuffer(self.flag_memory, np.uint8)
        view = memoryview(self.memory)
        self.slots = [layout.views(view[i * layout.bytes:(i + 1) * layout.bytes]) for i in range(slots)]
        self.children = []
        parent = os.getpid()
        for w in range(count):
            child = os.fork()
            if child:
                self.children.append(child)
                continue
            try:
                os.nice(5)
                import cv2
                cv2.setNumThreads(1)
                random = Random(f"{seed}/{w}")
                scenes = make_generator(random.randrange(1 << 62))
                while True:
                    for i in range(w * slots_each, (w + 1) * slots_each):
                        while self.flags[i]:
                            time.sleep(0.005)
                            if os.getppid() != parent:
                                os._exit(0)
                        fill(self.slots[i], scenes, coder, layout, random, weigh)
                        self.flags[i] = 1
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(1)

    def check(self) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in self.children and status:
            self.children.remove(pid)
            raise RuntimeError("a generator process died; its error is above")

    def stop(self) -> None:
        import signal
        for child in self.children:
            os.kill(child, signal.SIGTERM)


class Pool:
    """The newest `size` scenes of this rank, on its device."""

    def __init__(self, workers: Workers, size: int, device):
        self.workers, self.device = workers, device
        self.size = size - size % PER_SLOT
        types = {np.uint8: torch.uint8, np.int16: torch.int16}
        self.data = {n: torch.empty((self.size, *s[1:]), dtype=types[t], device=device)
                     for n, (s, t) in workers.layout.shapes.items()}
        self.host = [{n: torch.from_numpy(v) for n, v in slot.items()} for slot in workers.slots]
        if device.type == "cuda":  # copies from page-locked memory do not stop this process
            whole = np.frombuffer(workers.memory, np.uint8)
            torch.cuda.cudart().cudaHostRegister(whole.ctypes.data, whole.nbytes, 0)
        self.filled = self.next = self.received = 0
        self.flying = None  # (event, slots) of the copies under way

    def refill(self, limit: int = 64) -> None:
        """Takes over what the workers have finished, at most `limit` slots; never waits."""
        if self.flying:
            event, slots = self.flying
            if event is not None and not event.query():
                return
            self.workers.flags[slots] = 0
            self.flying = None
        ready = np.flatnonzero(self.workers.flags.copy())[:limit]  # the workers go on setting flags meanwhile
        if not len(ready):
            return
        for i in ready:
            for name, t in self.host[i].items():
                self.data[name][self.next:self.next + PER_SLOT].copy_(t, non_blocking=True)
            self.next = (self.next + PER_SLOT) % self.size
        self.received += PER_SLOT * len(ready)
        self.filled = min(self.received, self.size)
        event = None
        if self.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
        self.flying = event, ready

    def draw(self, count: int, long: bool, generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random scenes: pictures u8 [count, S, S, 3] and rows i16 [count, 4, width]."""
        index = torch.randint(self.filled, (count,), device=self.device, generator=generator)
        images = self.data["images"][index]
        if long:
            return images, self.data["long"][index]
        variant = torch.randint(VARIANTS, (count,), device=self.device, generator=generator)
        return images, self.data["short"][index, variant]
