"""aiorchsim: a simulated provider of language models behind real HTTP, in a process of its own.

For demos, tests and benchmarks: it has latency, rate limits, prices, faults and a quality, answers from the prompt
itself by small honest text work (`aiorchsim.textwork`), and counts every call it received (`GET /sim/stats`), so that
it is an independent witness of what a client of it claims to have saved. It stands alone: nothing here imports the
daemon.
"""
