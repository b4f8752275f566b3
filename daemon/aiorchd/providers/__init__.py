"""One wire dialect each, pure encode and decode; one shared transport does the I/O."""
