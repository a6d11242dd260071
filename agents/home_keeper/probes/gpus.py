"""Asks NVIDIA's driver (NVML) for its GPUs. Where there is no driver, or no nvidia-ml-py, there are none."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..checks.hardware import Gpu
from ..words import Finding
from .recall import of_this_boot
from .threads import Threads

_REMEMBERED = 600.0
"""Seconds that an Xid error is told: the driver tells it once."""


class Gpus:
    """NVIDIA's GPUs. One that was seen and is not there any more does not answer: it fell off the bus."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._nvml: Any = None
        self._events: Any = None
        self._seen: dict[str, Gpu] = {}
        self._xids: dict[str, tuple[int, float]] = {}

    def recall(self, left: Iterable[Finding]) -> None:
        """Take up what was open when the keeper ended: what is lost was there."""
        for one in of_this_boot(left, "gpu"):
            model, uuid = (str(one.details.get(key, "")) for key in ("model", "uuid"))
            if uuid:
                self._seen[one.target.name] = Gpu(one.target.name, model, uuid=uuid)

    async def __call__(self) -> list[Gpu]:
        """Look."""
        return await self._threads.run("nvml", self._look)

    def _begin(self) -> str | None:
        """Return why there is no driver to be asked, None if there is."""
        try:
            import pynvml  # noqa: PLC0415  (of use on few machines)
        except ImportError as error:
            return str(error)
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return str(error)
        self._nvml = pynvml
        self._listen()
        return None

    def _end(self) -> None:
        """Begin anew at the next look: what a GPU was reset by, or the driver replaced, ends all handles."""
        nvml, self._nvml = self._nvml, None
        with contextlib.suppress(nvml.NVMLError):
            if self._events is not None:
                nvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    def _listen(self) -> None:
        """Have the driver keep Xid errors for us; older GPUs cannot."""
        nvml, self._events = self._nvml, None
        with contextlib.suppress(nvml.NVMLError):
            self._events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                with contextlib.suppress(nvml.NVMLError):
                    handle = nvml.nvmlDeviceGetHandleByIndex(index)
                    nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)

    def _hear(self) -> None:
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError):  # a timeout: nothing has happened
            while self._events is not None:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                self._xids[str(nvml.nvmlDeviceGetUUID(event.device))] = (
                    int(event.eventData),
                    time.monotonic(),
                )

    def _look(self) -> list[Gpu]:
        found: dict[str, Gpu] = {}
        why = "it is gone"
        if self._nvml is not None or (away := self._begin()) is None:
            found, wrong = self._all()
            why = wrong or why
        else:
            why = away
        lost = [replace(gpu, unanswered=why) for name, gpu in self._seen.items() if name not in found]
        self._seen |= {
            gpu.name: Gpu(gpu.name, gpu.model, uuid=gpu.uuid) for gpu in found.values() if gpu.uuid
        }
        return [*found.values(), *lost]

    def _all(self) -> tuple[dict[str, Gpu], str]:
        """Return the GPUs that answer, or that are not known yet, and what is wrong."""
        nvml, wrong = self._nvml, ""
        found: dict[str, Gpu] = {}
        self._hear()
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            count, wrong = 0, str(error)
        for index in range(count):
            try:
                gpu = self._gpu(index, nvml.nvmlDeviceGetHandleByIndex(index), found)
            except nvml.NVMLError as error:
                wrong = str(error)
                if (name := f"gpu{index}") in self._seen:
                    continue
                gpu = Gpu(name, unanswered=wrong)
            found[gpu.name] = gpu
        if wrong:
            self._end()
        return found, wrong

    def _name(self, index: int, uuid: str, found: Iterable[str]) -> str:
        """Return what a GPU is called: where one before it is lost, it is enumerated as another one was."""
        for gpu in self._seen.values():
            if gpu.uuid == uuid:
                return gpu.name
        taken = {*self._seen, *found}
        return next(name for number in itertools.count(index) if (name := f"gpu{number}") not in taken)

    def _gpu(self, index: int, handle: Any, found: Iterable[str]) -> Gpu:
        nvml = self._nvml
        uuid = str(nvml.nvmlDeviceGetUUID(handle))
        xid, at = self._xids.get(uuid, (0, 0.0))
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        model = self._ask(nvml.nvmlDeviceGetName, handle) or ""
        return Gpu(
            name=self._name(index, uuid, found),
            model=model.decode() if isinstance(model, bytes) else str(model),
            memory_used=None if memory is None else int(memory.used),
            memory_total=0 if memory is None else int(memory.total),
            celsius=self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            slowdown=self._ask(
                nvml.nvmlDeviceGetTemperatureThreshold, handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
            ),
            xid=xid if time.monotonic() - at < _REMEMBERED else 0,
            uuid=uuid,
        )

    def _ask(self, question: Any, *arguments: Any) -> Any:
        """Return an answer, None where this GPU has none."""
        nvml = self._nvml
        try:
            return question(*arguments)
        except nvml.NVMLError_NotSupported:
            return None
