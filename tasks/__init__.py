"""Prefect tasks, one per step of the pipeline. What a step does is in `temper.ops.pipeline.steps`."""
