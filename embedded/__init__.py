"""Local tooling: the embedded stack, its set-up, gateway and feed; bill of materials. Production runs none of it."""
