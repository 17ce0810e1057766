"""The flows, which define when and how the pipeline runs. Read `pipeline.py` first."""
