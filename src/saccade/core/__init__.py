"""Values and laws: layouts, masks, biases, calls, verbs, state."""
