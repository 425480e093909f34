"""The same rewards in other trainers: TRL (``trl``), ms-swift (``swift``) and verl (``verl``).

Each bridge turns what its trainer hands to a reward function into trajectories, has a suite score them, and gives the
values back in the trainer's own form.  None of them imports its trainer, or torch.
"""
