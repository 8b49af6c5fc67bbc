"""Predictions over HTTP, from an exported folder or the registry, without torch."""
