"""Ways to the system under test: through the ports, and through plain client libraries."""
