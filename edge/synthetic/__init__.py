"""Synthetic radiographs: chests that no patient ever had, for the demo, the golden inputs and the tests."""
