"""Faults of every kind while images come in, and the proof afterwards that none was lost and none answered twice."""
