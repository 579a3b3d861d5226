"""Commands: what hosts and runners are asked to do, and what became of it."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class CommandCalls(Calls):
    async def commands(
        self,
        *,
        target: str | None = None,
        status: str | None = None,
        type: str | None = None,
        since: int | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[wire.Command]:
        """Those that fit every filter, oldest first (CMD-4). `since` is epoch milliseconds, inclusive: when they were made.
        `after` is the id of the command that a list before this one ended with. `limit`: 100 unless told, at most 500."""
        query = {
            "target": target,
            "status": status,
            "type": type,
            "since": since,
            "after": after,
            "limit": limit,
        }
        return self._list(wire.Command, await self._get("/api/commands", query))

    async def command(self, id: str) -> wire.Command:
        """One command. 404: unknown."""
        return self._one(wire.Command, await self._get(f"/api/commands/{segment(id)}"))

    async def create_command(self, command: wire.NewCommand) -> wire.Command:
        """A new command, pending (CMD-1); whoever it is for polls for it. Not repeated: trouble leaves open whether it
        was made."""
        return self._one(wire.Command, await self._call("POST", "/api/commands", command))

    async def patch_command(self, id: str, patch: wire.PatchCommand) -> wire.Command:
        """Report on a command; None keeps a member (CMD-7). The same report twice is harmless. 409: it has ended otherwise,
        cannot go back (CMD-11), or somebody else has claimed it. 404: unknown."""
        answer = await self._call("PATCH", f"/api/commands/{segment(id)}", patch, repeatable=True)
        return self._one(wire.Command, answer)

    async def claim_command(self, id: str, claimant: str | None = None) -> int | None:
        """Take a pending command, or one that this claimant has taken before (CMD-14): the token that reports of it must carry.
        None when it is somebody else's. 404: unknown. Repeated only with a name; without one,
        trouble may leave it taken by nobody who knows."""
        body = wire.ClaimCommand(claimant=claimant)
        again = claimant is not None
        answer = self._object(
            await self._call("POST", f"/api/commands/{segment(id)}/claim", body, repeatable=again)
        )
        token = answer.get("token")
        return token if answer.get("claimed") is True and isinstance(token, int) else None

    async def cancel_command(self, id: str) -> None:
        """End a command that has not ended (CMD-9). 404: unknown, or ended already. Not repeated, for the repeat of a success would be a 404."""
        await self._call("DELETE", f"/api/commands/{segment(id)}")
