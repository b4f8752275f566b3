"""The demonstration: real calls being saved, on real text, between real processes."""
