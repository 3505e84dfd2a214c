"""Checkpoints as they are published: safetensors with the hub's names, read shard by shard and written back.

`headers` and `folder` know files and bytes, `pieces` which part of which parameter a published tensor is,
`forms` how its values are stored; `reader`, `writer` and `check` put them together.
"""
