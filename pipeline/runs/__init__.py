"""One run of one stage, and its record.

runner      configuration, seed, a clean output folder, metrics
tracking    MLflow; artifacts: which files go there; lineage: which run made each present output
provenance  which code, libraries and machine made a result
processes   which `dvc` a stage belongs to, and whether it still lives
"""
