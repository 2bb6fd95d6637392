"""The client's commands under ``modelrunner``; ``frame`` says what they have in common."""
