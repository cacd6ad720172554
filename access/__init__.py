"""Who may: passwords, tokens, and what they open."""
