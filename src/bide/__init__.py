"""bide: a self-hosted gateway for generative media. Start reading at `bide.flow`."""

__version__ = "0.1.0"
