"""The daemon: one per host, between its processes and the language models they pay for."""
