"""A failed unit and an unhealthy container come back, and what is not named is let be."""


def remedies(target: str) -> list[dict[str, Any]]:
    """Return what was done about a target, oldest first."""
    return list(reversed(ask(f"keeper history {target}")["remedies"]))


def problems(target: str) -> list[str]:
    """Return what is wrong with a target."""
    found = [one for one in ask("keeper")["targets"] if one["target"] == target]
    return [finding["problem"] for one in found for finding in one["findings"]]


def question(target: str) -> int:
    """Wait until a person is asked about a target, and return the number of the question."""

    def asked(_: bool) -> list[int]:
        found = [one["question"] for one in ask("keeper")["targets"] if one["target"] == target]
        return [one["id"] for one in found if one]

    retry(asked, 60)
    return asked(True)[0]


def healed(target: str) -> dict[str, Any]:
    """Wait until what was done about a target has proved itself; return it."""
    retry(lambda _: [one for one in remedies(target) if one["verdict"]], 120)
    (only,) = remedies(target)
    assert only["verdict"] == "healed", only
    return only


def health(container: str) -> str:
    """Return what Docker thinks of a container."""
    return machine.succeed("docker inspect --format '{{.State.Health.Status}}' " + container).strip()


machine.wait_for_unit("rota-home-keeper.service")
machine.wait_for_unit("docker.service")
for unit in ("web", "stopped", "asked", "other"):
    machine.wait_for_unit(f"{unit}.service")
machine.wait_until_succeeds("rota keeper")

with subtest("a unit that is killed comes back"):
    machine.succeed("systemctl kill --signal KILL web.service")
    assert healed("unit:web.service")["remedy"] == "restart-unit"
    assert is_active("web.service")

with subtest("what was stopped by hand and what is not named is let be"):
    machine.succeed("systemctl stop stopped.service; systemctl kill --signal KILL other.service")
    retry(lambda _: problems("unit:other.service") == ["failed"], 60)
    machine.sleep(12)
    for name, state in (("stopped", "inactive"), ("other", "failed")):
        assert remedies(f"unit:{name}.service") == []
        assert show(f"{name}.service", "ActiveState") == state

with subtest("a person is asked, and answers"):
    machine.succeed("systemctl kill --signal KILL asked.service")
    number = question("unit:asked.service")
    assert not is_active("asked.service")
    status, said = by("bob", f"rota keeper approve {number}")
    assert status == 0, said
    assert healed("unit:asked.service")["approved_by"] == "bob"
    assert is_active("asked.service")

with subtest("an unhealthy container gets well"):
    machine.succeed(
        "docker load --input /etc/shop.tar.gz",
        "docker run --detach --name shop --network none --tmpfs /run"
        " --health-cmd 'test -e /run/well' --health-interval 2s --health-retries 2 shop:latest",
    )
    retry(lambda _: health("shop") == "healthy", 60)
    machine.succeed("docker exec shop rm /run/well")
    assert healed("container:shop")["remedy"] == "restart-container"
    assert health("shop") == "healthy"
    said = machine.succeed("journalctl --unit rota-docker-proxy.service --output cat")
    assert "/restart" in said, said

with subtest("it can do no more than that"):
    for command in (
        "systemctl --no-ask-password restart other.service",
        "systemctl --no-ask-password stop web.service",
        "docker ps",
    ):
        machine.fail(f"runuser -u rota-keeper -- {command}")
    said = machine.succeed("systemd-analyze security --no-pager rota-home-keeper.service")
    exposure = said.rpartition("rota-home-keeper.service: ")[2].split()[0]
    assert float(exposure) <= 2.0, said
