"""From an HTTP request to durable events."""
