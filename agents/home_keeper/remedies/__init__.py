"""Remedies: what is done about findings. Each may fail, and says why; whoever calls it bounds it in time."""
