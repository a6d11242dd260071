# ruff: noqa: N801, N802, N815, N818
"""What stands in for nvidia-ml-py, with its names: of GPUs there are none where tests are run."""

from __future__ import annotations

import types


class Driver(types.ModuleType):
    """NVML, with GPUs that are there, and those of them that are lost."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, nvmlEventTypeXidCriticalError = 0, 3, 8

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.there, self.lost, self.away = ["a", "b"], "", False

    def nvmlInit(self) -> None:
        if self.away:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlShutdown(self) -> None:
        pass

    def nvmlEventSetCreate(self) -> int:
        return 1

    def nvmlEventSetFree(self, _: int) -> None:
        pass

    def nvmlDeviceRegisterEvents(self, uuid: str, *_: int) -> None:
        self.nvmlDeviceGetUUID(uuid)

    def nvmlEventSetWait_v2(self, *_: int) -> None:
        raise self.NVMLError("Timeout")

    def nvmlDeviceGetCount(self) -> int:
        if self.away:
            raise self.NVMLError("Uninitialized")
        return len(self.there)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.there[index]

    def nvmlDeviceGetUUID(self, uuid: str) -> str:
        if uuid == self.lost:
            raise self.NVMLError("GPU is lost")
        return uuid

    def nvmlDeviceGetName(self, _: str) -> bytes:
        return b"RTX"

    def nvmlDeviceGetMemoryInfo(self, _: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(used=1, total=10)

    def nvmlDeviceGetTemperature(self, *_: object) -> int:
        return 40

    def nvmlDeviceGetTemperatureThreshold(self, *_: object) -> int:
        raise self.NVMLError_NotSupported
