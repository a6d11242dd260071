"""The agent `disk-report`: how full each real file system is."""
