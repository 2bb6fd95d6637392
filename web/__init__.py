"""The JSON API and the pages, on one Primary object."""
