"""Images from production on their way to the review page and to ingest."""
