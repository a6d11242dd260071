"""Checks: from facts to readings, and from readings to findings. All of it is pure."""
