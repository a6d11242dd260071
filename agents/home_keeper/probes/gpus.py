"""Asks NVIDIA's driver (NVML) for its GPUs. Where there is no driver, or no nvidia-ml-py, there are none."""

from __future__ import annotations

import time
from typing import Any

from ..checks.hardware import Gpu
from .threads import Threads

_REMEMBERED = 600.0
"""Seconds that an Xid error is told: the driver tells it once."""


class Gpus:
    """NVIDIA's GPUs."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._nvml: Any = None
        self._events: Any = None
        self._names: dict[str, str] = {}
        self._xids: dict[str, tuple[int, float]] = {}

    async def __call__(self) -> list[Gpu]:
        """Look."""
        return await self._threads.run("nvml", self._look)

    def _begin(self) -> bool:
        """Return whether there is a driver to be asked."""
        try:
            import pynvml  # noqa: PLC0415  (of use on few machines)
        except ImportError:
            return False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return False
        self._nvml = pynvml
        self._listen()
        return True

    def _handles(self) -> list[Any]:
        return [
            self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self._nvml.nvmlDeviceGetCount())
        ]

    def _listen(self) -> None:
        """Have the driver keep Xid errors for us; older GPUs cannot."""
        nvml = self._nvml
        try:
            self._events = nvml.nvmlEventSetCreate()
            for handle in self._handles():
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
        except nvml.NVMLError:
            self._events = None

    def _hear(self) -> None:
        nvml = self._nvml
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError:
                return  # a timeout: nothing has happened
            bus = str(nvml.nvmlDeviceGetUUID(event.device))
            self._xids[bus] = (int(event.eventData), time.monotonic())

    def _look(self) -> list[Gpu]:
        if self._nvml is None and not self._begin():
            return []
        nvml = self._nvml
        self._hear()
        try:
            found = [self._gpu(index, handle) for index, handle in enumerate(self._handles())]
        except nvml.NVMLError as error:
            why = str(error)
            self._nvml = None
            return [Gpu(name, model, unanswered=why) for name, model in self._names.items()]
        self._names = {gpu.name: gpu.model for gpu in found}
        return found

    def _gpu(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml
        xid, at = self._xids.get(str(nvml.nvmlDeviceGetUUID(handle)), (0, 0.0))
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        model = self._ask(nvml.nvmlDeviceGetName, handle) or ""
        return Gpu(
            name=f"gpu{index}",
            model=model.decode() if isinstance(model, bytes) else str(model),
            memory_used=None if memory is None else int(memory.used),
            memory_total=0 if memory is None else int(memory.total),
            celsius=self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            slowdown=self._ask(
                nvml.nvmlDeviceGetTemperatureThreshold, handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
            ),
            xid=xid if time.monotonic() - at < _REMEMBERED else 0,
        )

    def _ask(self, question: Any, *arguments: Any) -> Any:
        """Return an answer, None where this GPU has none."""
        nvml = self._nvml
        try:
            return question(*arguments)
        except nvml.NVMLError_NotSupported:
            return None
