"""The page that says how good a model is: figures, plots and findings, rendered."""
