"""Single-file pages: their shared script and their security headers."""
