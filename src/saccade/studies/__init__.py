"""Experiments that are no paper's, a file each: speed, inversion, the bundled models, architectures at one budget."""

__all__: list[str] = []
