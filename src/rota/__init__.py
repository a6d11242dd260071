"""rota: declared agents as systemd timers and sandboxed services."""

__version__ = "0.1.0"
