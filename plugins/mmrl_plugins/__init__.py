"""Reward plugins: one a file."""
