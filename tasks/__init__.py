"""The doors: everything that touches DVC, MLflow, Prefect and the terminal. Imports no torch."""
