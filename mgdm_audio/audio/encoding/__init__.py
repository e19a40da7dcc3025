"""Writing sound: formats, encoders and tags."""
