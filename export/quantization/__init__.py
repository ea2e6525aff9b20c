"""Post-training INT8 quantization for the two engines of the device."""
