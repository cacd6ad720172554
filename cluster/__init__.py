"""The Kubernetes API: every call, its errors, and the watch."""
