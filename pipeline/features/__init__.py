"""What a frozen network or a classical descriptor sees: computed on the fastest engine, and only
once.
"""
