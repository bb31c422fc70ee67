"""The vendors that come with the gateway: one folder each."""
