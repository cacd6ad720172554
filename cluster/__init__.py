"""This room talks to the Kubernetes API: it makes the calls, translates the errors, and watches."""
