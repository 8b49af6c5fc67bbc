"""The eight stages. Each is one function `run`; they never import each other."""
