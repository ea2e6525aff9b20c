"""`make demo`: the whole appliance on this machine, fed with synthetic radiographs or with the user's own files."""
