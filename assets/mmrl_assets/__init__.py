"""Data only: the embedded policy and sample tasks."""
