"""`scanside-export evaluate`: a sealed bundle, run as the device runs it, against labelled images."""
