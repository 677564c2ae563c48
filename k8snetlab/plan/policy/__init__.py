"""NetworkPolicies for each enforcing engine."""
