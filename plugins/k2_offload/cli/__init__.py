"""The ``k2`` command. Every command has ``--json`` and exit codes: 0 fine, 1 a finding or failure, 2 bad input."""
