"""What engines of several kinds share: parts without an opinion on any server."""
