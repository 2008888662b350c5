"""What the workers and the web must agree on: keys, documents, the store, configuration, clock, errors, logs."""

__version__ = "0.1.0"
