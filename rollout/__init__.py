"""This room follows rollouts: it judges, records, rolls back and notifies."""
