"""The manual pages and `docs/commands.md`, made from the same descriptions as each ``--help`` and the configuration's schema.

``python -m aiorchctl.manual`` in a checkout writes them anew; a test holds them to their source.
"""
