"""Training: one resumable loop (`loop.fit`), its configurations, and the recipes of the bundled models."""
