"""How one asks, and what one sees: HTTP in, HTTP out."""
