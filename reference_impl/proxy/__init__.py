"""A small model of the V3 architecture, trained on text that every machine has, to judge transforms on.

What it shows is a proxy: how schemes compare on a trained model of this architecture, never the accuracy of a
published one.
"""
