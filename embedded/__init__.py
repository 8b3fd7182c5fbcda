"""The embedded stack: everything the offload talks to, on one machine and without a container."""
