"""Turn Kubernetes YAML into a real network of Linux namespaces on one host, and prove it with packets."""

__version__ = "0.1.0"
