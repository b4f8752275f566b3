"""One policy each: async callables whose first constructor argument is their inner service."""
