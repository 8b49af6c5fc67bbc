"""Which version is in production, and on what evidence.

gates       what a version must show; limits: its figures against limits, and what so many photos show
comparison  two versions on the same images
beside      what `fieldmark compare` prints
moves       promote and rollback: the alias `production`, moved one at a time
records     the history: a run in MLflow for each move, written before it
registry    the registered model's versions and aliases
tables      what `fieldmark models` and `fieldmark history` print
recorded    commit, data and figures of an old run; reproduce: runs it again
"""
