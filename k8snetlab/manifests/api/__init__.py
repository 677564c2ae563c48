"""The Kubernetes objects the lab understands, as frozen values named as in k8s.io/api. Declarations only."""
