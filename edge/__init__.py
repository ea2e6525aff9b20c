"""The Scanside runtime: what runs on the box beside the scanner. It imports neither PyTorch nor `export`."""

__version__ = "0.1.0"
"""The owner of the version: `importlib.metadata` would cost each service 3 MB of memory to know it."""
