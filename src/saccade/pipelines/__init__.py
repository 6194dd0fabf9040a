"""Pipelines of diffusers: opened by name, taken apart for inversion, their words found among their tokens."""
