"""Environments: one family a file."""
