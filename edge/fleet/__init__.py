"""The manager's side of MQTT: collects what a fleet's boxes say, shows it, and simulates fleets."""
