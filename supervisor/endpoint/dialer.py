"""How a link gets a connection: which of its URLs, in the budget of which host, with which assignment, and through which
process that holds its TLS."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from wsadapter import capabilities
from wsadapter.config.interpolate import expand_endpoint, secrets_of
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.masking import Secrets, host_of, mask_url
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.connect_slot import ConnectSlot, connect_target
from wsadapter.endpoint.restart_policy import ConnectBudget, asked_to_wait
from wsadapter.import_path import with_dialect_folder
from wsadapter.loop.reactor import Reactor
from wsadapter.process.owner_process import OwnerListener, OwnerProcess
from wsadapter.process.tls_holder import TlsHolder


class SupervisorHost(Protocol):
    """What a link, and its dialer, need of the supervisor."""

    @property
    def reactor(self) -> Reactor: ...
    @property
    def budget(self) -> ConnectBudget: ...
    @property
    def busy_poll(self) -> float: ...

    def acquire_owner(self, listener: OwnerListener, endpoint: Endpoint) -> OwnerProcess:
        """A process for an owner: warm, or being started."""
        ...


class DialerHost(Protocol):
    """The settings of the connection."""

    endpoint: Endpoint
    dialect: dict[str, Any] | None
    quarantine: str
    """Folder for messages for which a hook fails, or of which owners die; empty: they are not kept."""
    sys_path: tuple[str, ...]
    """Where hooks are importable from."""


class Dialer:
    """The dialer of one link. All methods under the reactor's lock."""

    def __init__(
        self,
        supervisor: SupervisorHost,
        host: DialerHost,
        holder_gone: Callable[[], None],
        holder_printed: Callable[[str], None],
    ) -> None:
        """`holder_gone` is called when a process that held TLS has ended, `holder_printed` with each line that one printed."""
        self._supervisor = supervisor
        self._host = host
        self._holder_gone = holder_gone
        self._holder_printed = holder_printed
        self._holders: set[TlsHolder] = set()
        """Processes that hold TLS, including those that are ending."""
        self.attempt = 0
        """How many times an address failed: the next one is tried, if there are several."""
        self._secrets: Secrets | None = None
        """Secrets that the owner has sent, which no text may show; None: they are not known yet, as after a takeover."""
        self.resolved = ""
        """Host and port of the last connect, references filled in; "" before the first, and after a takeover."""

    @property
    def _url(self) -> str:
        urls = self._host.endpoint.urls
        return urls[self.attempt % len(urls)] if urls else ""

    @property
    def url(self) -> str:
        """The URL of the next connect, masked."""
        return mask_url(self._url)

    @property
    def has_holders(self) -> bool:
        """Whether a process that held TLS is left."""
        return bool(self._holders)

    def mask(self, text: str) -> str:
        """A text of a peer, without the secrets that were sent to the peer."""
        if self._secrets is None:
            self._secrets = secrets_of(self._host.endpoint)
        return self._secrets.mask(text)

    def reserve_connect(self) -> ConnectSlot:
        """The next connect, by the budget of its host."""
        return ConnectSlot(self._supervisor.budget, connect_target(self._host.endpoint, self._url), self._supervisor.reactor)

    def leave_host_alone(self, reason: Reason) -> None:
        """Apply Retry-After to every endpoint on this host, because the peer limits by host and address, not by endpoint."""
        if wait := asked_to_wait(reason):
            self._supervisor.budget.hold(connect_target(self._host.endpoint, self._url).key, monotonic() + wait)

    def assignment(self, epoch: int, **about: Any) -> Assignment:
        """The assignment for an owner. `about`: the fields that the link provides. Raises `ConfigError` if a reference in the
        settings has no value."""
        host = self._host
        endpoint = expand_endpoint(host.endpoint)
        self._secrets = secrets_of(host.endpoint)
        url = endpoint.urls[self.attempt % len(endpoint.urls)]
        self.resolved = host_of(url)
        return Assignment(
            endpoint=endpoint,
            epoch=epoch,
            url=url,
            dialect=host.dialect,
            custody=capabilities.custody(),
            busy_poll=self._supervisor.busy_poll,
            quarantine=host.quarantine,
            sys_path=with_dialect_folder(host.sys_path, endpoint.dialect),
            **about,
        )

    def connect(self, process: OwnerProcess, assignment: Assignment, slot: ConnectSlot) -> None:
        """Let a warm owner open a connection, which is what `slot` is for."""
        slot.use()
        if not (assignment.endpoint.tls.holder and assignment.url.startswith("wss:")):
            process.assign(assignment)
            return
        try:
            holder = TlsHolder(self._on_holder_gone, self._holder_printed).start(self._supervisor.acquire_owner, assignment)
        except OSError as error:
            process.abort(Reason(kind="connect_failed", text=f"no loopback connection to a TLS holder: {error}"))
            return
        self._holders.add(holder)
        process.assign(holder.for_owner(assignment), None, holder)

    def receive_holder(self, take: Callable[[OwnerListener], OwnerProcess]) -> TlsHolder:
        """A process that holds TLS and was another supervisor's; `take` returns the process."""
        holder = TlsHolder(self._on_holder_gone, self._holder_printed).adopt(take)
        self._holders.add(holder)
        return holder

    def forget_holders(self) -> None:
        """Another supervisor has these processes now."""
        self._holders.clear()

    def _on_holder_gone(self, holder: TlsHolder) -> None:
        self._holders.discard(holder)
        self._holder_gone()
