"""What is done about findings: coroutines that take an action and return a report, or raise RotaError."""
