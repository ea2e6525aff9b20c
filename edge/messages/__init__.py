"""The MQTT contract: topics, messages and their JSON Schemas, for box and manager. It opens no file of the box."""
