"""Inside one attention module: its own code runs, and the call it makes passes through us."""
