"""What ``from modelrunner import ...`` gives, for type checkers.

Installed as ``modelrunner-stubs``: ``modelrunner`` is a single module, which loads the
client only when it is asked for, and neither is seen by a type checker otherwise.
"""

from client.api import Client as Client
from client.api import LogPart as LogPart
from client.errors import BadInput as BadInput
from client.errors import ClientError as ClientError
from client.errors import TimedOut as TimedOut
from client.errors import Unreachable as Unreachable
from client.shapes import Job as Job
from client.shapes import JobDetail as JobDetail
from client.shapes import OutputFile as OutputFile

def main() -> None: ...
