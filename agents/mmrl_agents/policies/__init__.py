"""Policies: one a file."""
