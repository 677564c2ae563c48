"""The `k8snetlab` command."""


def main() -> None:
    """Entry point; replaced by the click group."""
