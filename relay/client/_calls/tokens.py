"""Tokens: made, listed and ended; and those of hosts and runners."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class TokenCalls(Calls):
    async def tokens(
        self,
        *,
        sub: str | None = None,
        role: str | None = None,
        live: bool | None = None,
        limit: int | None = None,
    ) -> list[wire.Token]:
        """Records, newest first; with `live` only of tokens that are neither revoked nor expired."""
        only = None if live is None else str(live).lower()
        query = {"sub": sub, "role": role, "live": only, "limit": limit}
        return self._list(wire.Token, await self._get("/api/tokens", query))

    async def one_token(self, jti: str) -> wire.Token:
        """One record. 404: unknown."""
        return self._one(wire.Token, await self._get(f"/api/tokens/{segment(jti)}"))

    async def create_token(self, asked: wire.NewToken) -> wire.IssuedToken:
        """Make a token; its text is told this once. 403: it would be more than the one that asks has. Not repeated: trouble
        leaves open whether it was made."""
        return self._one(wire.IssuedToken, await self._call("POST", "/api/tokens", asked))

    async def revoke_token(self, jti: str) -> None:
        """End a token, and all that replaced each other with it. 404: unknown, or it has ended before. Not repeated: trouble
        leaves open whether it has."""
        await self._call("POST", f"/api/tokens/{segment(jti)}/revoke")

    async def rotate_key(self) -> wire.RotatedKey:
        """Have another key sign from now on. 403: not the root token. Not repeated."""
        return self._one(wire.RotatedKey, await self._call("POST", "/api/tokens/rotate-key"))

    async def renew_token(self) -> wire.IssuedToken:
        """Another token in place of the one that asks. 409: it is none that is renewed. Not repeated: trouble leaves open
        whether the old one is of any more use."""
        return self._one(
            wire.IssuedToken, await self._call("POST", "/api/runtime-tokens/renew", as_it_is=True)
        )

    async def interactive_token(self, asked: wire.ExchangeToken) -> wire.IssuedToken:
        """A token for the runner of one agent, for whoever has the root token. 403: this is another."""
        path = "/api/runtime-tokens/interactive-runner"
        answer = await self._call("POST", path, asked, repeatable=True, as_it_is=True)
        return self._one(wire.IssuedToken, answer)

    async def runner_token(self, command_id: str, agent_id: str) -> wire.RunnerGrant:
        """A token for the runner that the command has this host start, and what of provider and profile no command holds. 409:
        it is over, or not claimed, or its profile has gone. 422: it starts nothing. 404: unknown, or a relay that makes no
        tokens."""
        path = f"/api/commands/{segment(command_id)}/runner-token"
        answer = await self._call("POST", path, wire.MintRunnerToken(agent_id=agent_id), repeatable=True)
        return self._one(wire.RunnerGrant, answer)

    async def remint_token(
        self, orchestrator: str, token: str, *, lost: bool | None = None
    ) -> wire.IssuedToken:
        """Another token for a runner of this host in place of `token`, which may have expired (ORC-50); with `lost` also
        when that was replaced before, and nobody had the answer. 403: it is none of its, was revoked, or replaced before.
        Not repeated: trouble leaves open whether it was replaced."""
        path = f"/api/orchestrators/{segment(orchestrator)}/runner-token"
        shown = wire.PresentToken(token=token, lost=lost)
        return self._one(wire.IssuedToken, await self._call("POST", path, shown))
