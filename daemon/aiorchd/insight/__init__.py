"""Statistics and the story of one call."""
