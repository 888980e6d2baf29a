"""The checkers, one file for each model."""
