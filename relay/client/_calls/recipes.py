"""Recipes: agents that work together on something, and the runs of them."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class RecipeCalls(Calls):
    async def recipes(self) -> list[wire.LoadedRecipe]:
        """Those that can be started, by name (REC-1)."""
        return self._list(wire.LoadedRecipe, await self._get("/api/recipes"))

    async def recipe(self, name: str) -> wire.LoadedRecipe:
        """One recipe. 404: there is none of that name, or its file is broken."""
        return self._one(wire.LoadedRecipe, await self._get(f"/api/recipes/{segment(name)}"))

    async def start_recipe(self, start: wire.StartRecipe) -> wire.RecipeStarted:
        """Begin a run (REC-4 to REC-8). 400: there is no such recipe, or no host that fits. Not repeated: trouble leaves open
        whether there is a run."""
        return self._one(wire.RecipeStarted, await self._call("POST", "/api/recipes/start", start))

    async def recipe_runs(
        self, *, status: str | None = None, limit: int | None = None
    ) -> list[wire.RecipeInstance]:
        """Runs, the newest first. `limit`: 100 unless told, at most 500."""
        query = {"status": status, "limit": limit}
        return self._list(wire.RecipeInstance, await self._get("/api/recipes/instances", query))

    async def recipe_run(self, id: str) -> wire.RecipeInstance:
        """One run. 404: unknown."""
        return self._one(wire.RecipeInstance, await self._get(f"/api/recipes/instances/{segment(id)}"))

    async def stop_recipe(self, id: str, stopped_by: str | None = None) -> wire.RecipeStarted:
        """Shut down what the run has started (REC-10). 400: it is over, or about to be. 404: unknown. Not repeated, for the
        repeat of a success would be a 400."""
        body = {"stoppedBy": stopped_by} if stopped_by is not None else None
        path = f"/api/recipes/instances/{segment(id)}/stop"
        return self._one(wire.RecipeStarted, await self._call("POST", path, body))

    async def decide_step(self, id: str, step: str, decision: wire.DecideStep) -> wire.RecipeInstance:
        """Say what came of a step that is held. 409: it is not held (any more). 404: no such run, or step. Not repeated, for the
        repeat of a success would be a 409."""
        path = f"/api/recipes/instances/{segment(id)}/steps/{segment(step)}"
        return self._one(wire.RecipeInstance, await self._call("POST", path, decision))
