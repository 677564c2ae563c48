"""`python -m k8snetlab`."""

from k8snetlab.cli.main import main

if __name__ == "__main__":
    main()
