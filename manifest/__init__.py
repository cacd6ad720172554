"""This room reads what the operator wrote: the manifest files, and the image names and pod templates in them."""
