"""Findings to MQTT: sends what waits in the outbox, says how the box is, and can read nothing else."""
