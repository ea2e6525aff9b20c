"""The export stage: trains, traces, quantizes, evaluates and seals the model bundles that the device loads."""
