"""Primitives without a paper's name, one file each; systems put them together."""
