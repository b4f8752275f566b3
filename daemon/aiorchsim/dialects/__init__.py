"""The dialects that providers speak: each turns the body of a request into work, and work or a refusal into bytes.

A dialect is pure but for asking the simulation for models, replays and remembered work. It tells its endpoints to
`routes`.
"""
