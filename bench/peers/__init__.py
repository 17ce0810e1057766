"""Trainings that are held against each other: each a process of its own that tells its seconds and scores, line by line."""
