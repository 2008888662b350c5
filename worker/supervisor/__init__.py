"""``sixbot up``: every process of an installation, started in order, restarted when it crashes, stopped in order."""
