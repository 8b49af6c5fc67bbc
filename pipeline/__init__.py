"""Fieldmark: from a folder of images to a model in production, with every step on record.

cli         the command `fieldmark`: one sub-command a stage, and what a person asks for
config      params.yaml over conf/, checked against schema; what one stage may see
runner      runs one stage: configuration, seed, MLflow run, a clean output folder, metrics
stages/     the eight stages: functions from folders and parameters to one folder
sources/    where images come from
images      pixels: decode, orient, enhance, square
faces       blurring those that are in a picture by chance
sheets      contact sheets and thumbnails
table store the one table; packed images and arrays on disk
shards      a cache of arrays by key
resumable   arrays that a killed run goes on filling
labels/     doubtful labels, duplicates, quality, people's decisions, the split
features/   frozen networks on the fastest engine, with a cache; classical features
training/   networks, the LightningModule, augmentation, fitting
search/     comparing candidates, the Optuna study
evaluation/ metrics, plots, the report
review/     the page on which people settle labels
feedback    images that came back from production, on their way to the review page and to ingest
serving/    a model in production: loaded without torch, asked over HTTP or on its page
prediction/ the same on the command line: files, videos, cameras
pages       what pages of one file share and may load
monitor/    records of predictions, drift, accuracy, alerts, and the page that shows them
outputs     what an exported model answers
packaging   ONNX, parity, the model card
promotion/  gates, the alias `production`, its history; rebuilding an old run
tracking    MLflow
provenance  which code, libraries and machine made a result
lineage     which run made each present output
parallel    work on all cores, and in a process of its own
errors      the one exception that is shown without a traceback
processes   which `dvc` a stage belongs to, and whether it still lives
"""
