"""When and how the chain runs. `pipeline.py` is the first file to read."""
