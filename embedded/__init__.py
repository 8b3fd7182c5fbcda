"""Local tooling: the embedded stack, its set-up, gateway and feed, the bill of materials. Production runs none of it."""
