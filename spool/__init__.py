"""The directory tree through which primary and workers meet."""
