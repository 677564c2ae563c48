"""One module a kube-proxy mode, and what reads its rules back."""
