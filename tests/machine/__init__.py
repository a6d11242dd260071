"""A throw-away machine with a real systemd, for tests, the demo and `make shell`."""
