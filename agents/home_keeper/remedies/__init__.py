"""Remedies: what is done about a finding. Each starts something that systemd or Docker then does."""
