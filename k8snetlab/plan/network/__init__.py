"""One module a pod network."""
