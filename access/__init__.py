"""Who may do what: passwords, tokens, and the deployments that they open."""
