"""The ways in: the Unix socket, its sessions and methods."""
