"""An agent that an automation starts, on a real host: it says which run it is for."""

from __future__ import annotations

from typing import Any

import pytest
from hosts import Host, until

from relay import wire


@pytest.mark.spec("AUT-9", "ORC-11")
async def test_the_agent_of_an_automation_names_its_run(host: Host) -> None:
    async with host.running():
        wish = host.wish("night")
        action = wire.SpawnAction(
            provider=wire.Provider.COMMAND,
            label="night",
            cwd=wish["cwd"],
            provider_config=wish["providerConfig"],
        )
        asked = wire.NewAutomation(name="nightly", schedule=wire.ManualSchedule(), action=action)
        made = await host.relay.create_automation(asked)
        done = await host.relay.run_automation(made.id)

        async def ended() -> wire.AutomationRun | None:
            (run,) = await host.relay.automation_runs(automation_id=made.id)
            return run if run.status.final else None

        run = await until(ended)
        assert (run.id, run.status, run.error) == (done.run.id, wire.RunStatus.SUCCEEDED, None)

        async def registered() -> dict[str, Any] | None:
            found = [each.meta for each in await host.relay.agents() if "automationRunId" in each.meta]
            return found[0] if found else None

        meta = await until(registered)
        assert (meta["automationId"], meta["automationRunId"]) == (made.id, run.id)
        (entry,) = [each for each in await host.roster() if each.automation_run_id is not None]
        assert entry.automation_run_id == run.id
        assert entry.workspace is not None
        assert entry.workspace.mode is wire.WorkspaceMode.ISOLATED, "as for whatever nobody looks after"
