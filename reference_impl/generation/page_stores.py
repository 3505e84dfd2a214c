"""Places that hold pages as bytes: memory of a device, and a file on disk."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

import torch
from torch import Tensor

from hardware_specs.records.errors import InputError, Problem
from model_graphs.page_places import Page


class PageStore(Protocol):
    """A place for pages."""

    def put(self, page: Page, data: Tensor) -> None:
        """Keep a copy of the page's data."""

    def get(self, page: Page) -> Tensor:
        """The page's data; where it lies is the store's matter."""

    def drop(self, page: Page) -> None:
        """Forget the page."""

    def close(self) -> None:
        """Give back what the store holds."""


class MemoryStore:
    """Pages as tensors of one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pages: dict[Page, Tensor] = {}

    def put(self, page: Page, data: Tensor) -> None:
        """Copy the data to the device."""
        self._pages[page] = data.to(self._device, copy=True)

    def get(self, page: Page) -> Tensor:
        """The store's own tensor: what is written to it stays."""
        return self._pages[page]

    def drop(self, page: Page) -> None:
        """Free the tensor."""
        del self._pages[page]

    def close(self) -> None:
        """Free all tensors."""
        self._pages.clear()


class FileStore:
    """Pages in slots of one file in a folder; the file is gone when the store is closed.

    Raises:
        InputError: no file can be made there.
    """

    def __init__(self, folder: Path, slot_bytes: int) -> None:
        try:
            self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        except OSError as error:
            requirement = f"must be a folder that can be written ({error.strerror})"
            raise InputError(Problem(requirement, str(folder), path="spill_folder")) from error
        self._slot_bytes = slot_bytes
        self._free_slots: list[int] = []
        self._entries: dict[Page, tuple[int, torch.Size, torch.dtype]] = {}

    def put(self, page: Page, data: Tensor) -> None:
        """Write the data into a free slot."""
        assert data.nbytes <= self._slot_bytes, "a slot holds the largest page"
        slot = self._free_slots.pop() if self._free_slots else len(self._entries)
        self._entries[page] = (slot, data.shape, data.dtype)
        self._file.seek(slot * self._slot_bytes)
        self._file.write(data.cpu().contiguous().view(torch.uint8).numpy().tobytes())

    def get(self, page: Page) -> Tensor:
        """The data read from the file."""
        slot, shape, dtype = self._entries[page]
        self._file.seek(slot * self._slot_bytes)
        content = bytearray(self._file.read(shape.numel() * dtype.itemsize))
        return torch.frombuffer(content, dtype=dtype).view(shape)

    def drop(self, page: Page) -> None:
        """Free the slot."""
        slot, _, _ = self._entries.pop(page)
        self._free_slots.append(slot)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
