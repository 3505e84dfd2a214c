"""Reference implementations in PyTorch: what the work is, as code that runs. The only importer of torch.

`kernels` holds the operators that a graph knows, each with its fake and its work; `layers` the modules that
call one of them. A model has a folder: `model` reads downwards like its paper, its parts beside it;
`loading` fills it from published weights; `parallel` applies a layout from outside. `phases` says what of a
model is exported, `tracing` reads the exported program back, and `emission` makes the operator graph.
"""
