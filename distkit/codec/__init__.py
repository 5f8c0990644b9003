"""Bytes and records: a registry of layouts, and frames on a stream. Knows no message; each machine brings its table."""

from distkit._fast.wire import FRAME_HEADER_BYTES
from distkit.codec.frames import FrameDecoder
from distkit.codec.layout import Row
from distkit.codec.registry import Registry

__all__ = ["FRAME_HEADER_BYTES", "FrameDecoder", "Registry", "Row"]
