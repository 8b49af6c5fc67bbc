"""Watching a model in production: records of its predictions, drift, accuracy, alerts, and the page
that shows them.
"""
