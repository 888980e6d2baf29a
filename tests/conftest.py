"""Shared fixtures. Every test of asyncio code runs on the loop that a node would use."""
