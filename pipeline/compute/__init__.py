"""Where work runs: on all cores, and in a process of its own."""
