"""The Scanside runtime: what runs on the box beside the scanner. It imports neither PyTorch nor `export`."""
