"""What a network or a classical descriptor sees of an image, computed once, on the fastest
engine.
"""
