"""The primary: its rules (pure) and its loop."""
