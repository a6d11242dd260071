"""Remedies: what the keeper does about findings, each an edge of its own."""
