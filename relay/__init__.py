"""relay: an actor runtime on trio, and the server that coordinates fleets of coding agents."""

__version__ = "0.1.0"
