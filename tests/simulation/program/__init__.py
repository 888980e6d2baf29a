"""Whole programs under faults."""
