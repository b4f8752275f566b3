"""The TOML as typed, immutable records, and every problem in it at once."""
