"""The one place that names this release and the protocol it speaks."""

__version__ = "0.1.0"

PROTOCOL = 1
"""Counts incompatible changes of the wire methods; told by ``hello``."""
