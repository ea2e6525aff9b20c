"""Findings to people: the status page, its API, and who may see what."""
