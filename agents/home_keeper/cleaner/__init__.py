"""rota-clean: frees room on one file system, as root, by rules that only root writes.

`plan` decides, pure; `tree`, `tools` and `engine` look and act; `program` is the wiring.
"""
