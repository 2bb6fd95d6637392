"""Fixtures that more than one package's tests use."""
