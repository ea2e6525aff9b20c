"""Pixels to findings: the bundle, the engines that run it, their self-test, routing, the pipeline and its service."""
