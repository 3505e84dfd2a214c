"""Measuring reference steps on the machine at hand, kernel by kernel: time, traffic, energy.

`request` says what is asked for, `subject` builds it, `call_catalogue` says which kernels a step calls and
what they do, `recorder` and `clocks` time them, `meters` read energy, `machine` describes where it ran, and
`steps` puts a measured step together.
"""
