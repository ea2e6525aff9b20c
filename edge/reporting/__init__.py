"""Results back where the clinic reads images: DICOM objects made of results, and their delivery to PACS."""
