"""The proxy of Ingresses and Gateways: the routing table as Envoy's configuration. Pure."""
