"""Comparing candidates, and searching the winner's hyperparameters."""
