"""Local tooling: the embedded stack, its set-up, the gateway and the feed. Production runs none of it."""
