"""engines/tcp."""
