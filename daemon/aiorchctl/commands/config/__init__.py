"""``aiorchctl config``: one file for each of its commands."""
