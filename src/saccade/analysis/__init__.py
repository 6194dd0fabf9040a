"""Probes of trained models: what their parts do, and when."""
