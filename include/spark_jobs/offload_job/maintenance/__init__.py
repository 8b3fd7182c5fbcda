"""Keeps cold tables in shape: fewer files, fewer snapshots, nothing that no snapshot names."""
