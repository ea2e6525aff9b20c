"""How images arrive: the DICOM listener and the watch folder, both into `store.accept()`."""
