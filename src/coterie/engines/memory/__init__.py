"""engines/memory."""
