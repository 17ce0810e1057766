"""Trainings to compare: each one is a separate process that reports its seconds and scores line by line."""
