"""What the comparisons with other trainers share: how a side takes its steps, and how steps are compared."""
