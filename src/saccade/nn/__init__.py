"""Trainable blocks: what architectures are built from.

A block is a token mixer and a feed-forward around a residual stream. Both answer one call,
`part(x, place) -> MixerOutput`, and are named by text in a configuration: `mixer="attention(qk_norm=True)"`.
"""
