"""Where everything lies on a host, with root and without. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["system", "user"]
Service = Literal["modelrunner-primary", "modelrunner-runner", "modelrunner-worker"]

PRIMARY: Service = "modelrunner-primary"
RUNNER: Service = "modelrunner-runner"
WORKER: Service = "modelrunner-worker"
SERVICES: tuple[Service, ...] = (PRIMARY, RUNNER, WORKER)  # in the order in which they start

ACCOUNT = "modelrunner"  # the system user, and its group
NGINX_FILE = "/etc/nginx/conf.d/modelrunner.conf"
CERTIFICATE, CERTIFICATE_KEY = "certificate.pem", "key.pem"  # in Paths.tls


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute paths. What is ``var``'s is the data, which a removal leaves."""

    mode: Mode
    base: str  # versions/, current, models/, model-versions/
    etc: str  # configuration and keys
    var: str  # data/, worker/
    units: str  # of systemd
    account: str  # who runs it all

    @property
    def versions(self) -> str:
        return f"{self.base}/versions"

    @property
    def current(self) -> str:
        """A link to the version in use."""
        return f"{self.base}/current"

    @property
    def models(self) -> str:
        """A folder of links, each to a model's version in use: what --models gets."""
        return f"{self.base}/models"

    @property
    def model_versions(self) -> str:
        return f"{self.base}/model-versions"

    @property
    def data(self) -> str:
        """The primary's data directory."""
        return f"{self.var}/data"

    @property
    def state(self) -> str:
        """The worker's state directory."""
        return f"{self.var}/worker"

    @property
    def primary_env(self) -> str:
        """Environment of the primary, with the admin key: nobody else's business."""
        return f"{self.etc}/primary.env"

    @property
    def ssh(self) -> str:
        """The worker's own: config, known_hosts, id_ed25519 and id_ed25519.pub."""
        return f"{self.etc}/ssh"

    @property
    def tls(self) -> str:
        """The certificate that is made for nginx, where the keeper gives none."""
        return f"{self.etc}/tls"

    @property
    def logs(self) -> str:
        """Of services that no systemd keeps."""
        return f"{self.var}/log"

    def version(self, release: str) -> str:
        return f"{self.versions}/{release}"


def paths(mode: Mode, home: str, account: str) -> Paths:
    """``home`` and ``account`` are those of the login; with root neither counts."""
    if mode == "system":
        return Paths(
            mode=mode,
            base="/opt/modelrunner",
            etc="/etc/modelrunner",
            var="/var/lib/modelrunner",
            units="/etc/systemd/system",
            account=ACCOUNT,
        )
    local = f"{home.rstrip('/')}/.local"
    return Paths(
        mode=mode,
        base=f"{local}/lib/modelrunner",
        etc=f"{local}/etc/modelrunner",
        var=f"{local}/share/modelrunner",
        units=f"{local}/share/systemd/user",
        account=account,
    )
