"""mailbase: subscription forms and email newsletters, headless and self-hosted."""

__version__ = "0.1.0"
