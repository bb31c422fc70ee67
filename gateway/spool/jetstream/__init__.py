"""The spool of several gateways: a log and a journal per shard, in NATS JetStream.

Nothing imports it unless a cluster is configured, so that a single gateway needs no NATS client.
"""
