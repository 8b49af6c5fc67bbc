"""The commands of `fieldmark`; pipeline/cli.py puts them together.

stages      one command per stage of dvc.yaml
project     config, cache, lineage and review
serving     a model at work: serve, predict, monitor
production  which version is in production: promote, rollback, models, history, reproduce

A command imports what it needs when it runs. That takes seconds, in which `--help` would wait, and
Ctrl-C would print a traceback of the imports.
"""
