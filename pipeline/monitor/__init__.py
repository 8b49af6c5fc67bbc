"""Monitoring a model in production: records of predictions, drift, accuracy, alerts, the page."""
