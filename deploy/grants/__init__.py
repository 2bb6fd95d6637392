"""Setting hosts up: accounts for workers and for colleagues who drop zips (``spool grant``).

Pure are ``keys``, ``layout``, ``facts``, ``steps`` and ``planning``: what is to be done follows
from names and facts. ``accounts`` and ``places`` gather the facts, ``apply`` does the steps.
"""
