"""Algorithms without I/O: handed the time, returning what to do; stdlib only."""
