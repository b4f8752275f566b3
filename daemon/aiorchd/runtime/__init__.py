"""What outlives a configuration: generations, the live state of targets, signals, logging."""
