"""Disks on trio: `DiskFiles` is the real disk behind the Files protocol, `LogWorker` the thread that writes the log."""

from distkit.storage.files import DiskFiles
from distkit.storage.worker import LogWorker

__all__ = ["DiskFiles", "LogWorker"]
