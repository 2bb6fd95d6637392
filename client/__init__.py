"""What talks to a primary over HTTP: the Python client and its commands."""
