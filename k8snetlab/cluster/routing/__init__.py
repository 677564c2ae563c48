"""Ingress and Gateway API: from their objects to one table of listeners, hosts, routes and backends. Pure."""
