"""The Hydra plugins of bnexp: the `cohort` launcher and the `study` sweeper."""
