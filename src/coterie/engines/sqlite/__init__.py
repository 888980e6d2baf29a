"""engines/sqlite."""
