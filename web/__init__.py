"""HTTP: what a caller may ask, and what the answers look like."""
