"""Prefect tasks, one per step of the pipeline. `temper.ops.pipeline.steps` defines what a step does."""
