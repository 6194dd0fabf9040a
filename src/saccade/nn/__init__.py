"""Trainable blocks."""
