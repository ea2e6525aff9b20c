"""The export stage: trains, traces, quantizes, evaluates and seals the model bundles that the device loads."""

from edge.inference.engines import switch_telemetry_off

switch_telemetry_off()
