"""What the operator wrote: the manifest files."""
