"""wsadapter: a process per WebSocket feed, supervised; feeds that never silently stop, fanned in to one ordered stream.

    from wsadapter import Supervisor, Endpoint, Message, Up, Down, Gap

    with Supervisor([Endpoint("binance", url="wss://stream.binance.com:9443/ws/btcusdt@trade")]) as feed:
        for item in feed:
            match item:
                case Message(endpoint=name, data=data): ...
                case Gap(endpoint=name): rebuild(name)

The names are loaded when they are first used (PEP 562): an owner process imports `wsadapter.contract` and `wsadapter.worker`
through this package, and must not pay for the parent's modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from wsadapter.attachment.feed import AttachedFeed, attach
    from wsadapter.config import Settings, load
    from wsadapter.contract.endpoint import (
        Buffer,
        Endpoint,
        Filter,
        Heartbeat,
        Limits,
        Request,
        Restart,
        Timeouts,
        Tls,
        Watchdog,
    )
    from wsadapter.contract.errors import (
        AllFatal,
        AlreadyRunning,
        ClosedError,
        ConcurrentIteration,
        ConfigError,
        ConsumerInUse,
        ConsumerReplaced,
        ControlError,
        DuplicateEndpoint,
        DuplicateRequest,
        JournalError,
        JournalInUse,
        LostError,
        MonitorReleased,
        NewerJournal,
        NoAnswer,
        NotAJournal,
        NotConnected,
        NotRunning,
        NotSent,
        OutcomeUnknown,
        PositionBeyondEnd,
        RequestRejected,
        SendFailed,
        SupervisorStopped,
        TakeoverError,
        UnknownConsumer,
        UnknownEndpoint,
        UnknownSink,
        UnsupportedPlatform,
        UsageError,
        WrongProcess,
        WrongType,
        WsAdapterError,
    )
    from wsadapter.contract.items import (
        Answer,
        AnyEvent,
        Batch,
        ClockStep,
        Down,
        Dropped,
        Event,
        Fatal,
        Gap,
        Item,
        LateAnswer,
        Message,
        Notice,
        Rejected,
        Restored,
        Stalled,
        Started,
        Subscribed,
        Up,
    )
    from wsadapter.contract.reasons import Reason
    from wsadapter.contract.tables import (
        BufferTable,
        FilterTable,
        HeartbeatTable,
        HooksTable,
        LimitsTable,
        RequestTable,
        RestartTable,
        TimeoutsTable,
        TlsTable,
        WatchdogTable,
    )
    from wsadapter.delivery.stream import Stream
    from wsadapter.endpoint.monitor import Monitor
    from wsadapter.endpoint.requests import Pending
    from wsadapter.feed import AsyncFeed, Feed, FeedStream
    from wsadapter.journal.journal import Journal
    from wsadapter.pool import Pool
    from wsadapter.sinks.base import (
        EndpointPosition,
        OtherWriter,
        Position,
        Sink,
        SinkBatch,
        SinkError,
        SinkRecord,
        TargetFull,
        TargetRefused,
        TargetUnavailable,
    )
    from wsadapter.status import (
        Capabilities,
        ConsumerLag,
        ConsumerStatus,
        EndpointState,
        EndpointStatus,
        ExitStatus,
        JournalStatus,
        MemberStatus,
        PoolMemberStatus,
        PoolStatus,
        SinkStatus,
        Status,
        SubscriptionStatus,
    )
    from wsadapter.supervisor import Supervisor

_HOME = {
    "wsadapter.attachment.feed": ("AttachedFeed", "attach"),
    "wsadapter.supervisor": ("Supervisor",),
    "wsadapter.delivery.stream": ("Stream",),
    "wsadapter.feed": ("AsyncFeed", "Feed", "FeedStream"),
    "wsadapter.endpoint.monitor": ("Monitor",),
    "wsadapter.endpoint.requests": ("Pending",),
    "wsadapter.journal.journal": ("Journal",),
    "wsadapter.pool": ("Pool",),
    "wsadapter.sinks.base": (
        "EndpointPosition", "OtherWriter", "Position", "Sink", "SinkBatch", "SinkError", "SinkRecord",
        "TargetFull", "TargetRefused", "TargetUnavailable",
    ),
    "wsadapter.status": (
        "Capabilities", "ConsumerLag", "ConsumerStatus", "EndpointState", "EndpointStatus", "ExitStatus", "JournalStatus",
        "MemberStatus", "PoolMemberStatus", "PoolStatus",
        "SinkStatus", "Status", "SubscriptionStatus",
    ),
    "wsadapter.config": ("Settings", "load"),
    "wsadapter.contract.endpoint": (
        "Buffer", "Endpoint", "Filter", "Heartbeat", "Limits", "Request", "Restart", "Timeouts", "Tls", "Watchdog",
    ),
    "wsadapter.contract.items": (
        "Answer", "AnyEvent", "Batch", "ClockStep", "Down", "Dropped", "Event", "Fatal", "Gap", "Item", "LateAnswer",
        "Message", "Notice", "Rejected", "Restored", "Stalled", "Started", "Subscribed", "Up",
    ),
    "wsadapter.contract.reasons": ("Reason",),
    "wsadapter.contract.tables": (
        "BufferTable", "FilterTable", "HeartbeatTable", "HooksTable", "LimitsTable", "RequestTable", "RestartTable",
        "TimeoutsTable", "TlsTable", "WatchdogTable",
    ),
    "wsadapter.contract.errors": (
        "AllFatal", "AlreadyRunning", "ClosedError", "ConcurrentIteration", "ConfigError", "ConsumerInUse",
        "ConsumerReplaced", "ControlError", "DuplicateEndpoint", "DuplicateRequest", "JournalError", "JournalInUse",
        "LostError", "MonitorReleased", "NewerJournal", "NoAnswer", "NotAJournal", "NotConnected", "NotRunning",
        "NotSent", "OutcomeUnknown", "PositionBeyondEnd", "RequestRejected", "SendFailed", "SupervisorStopped",
        "TakeoverError", "UnknownConsumer", "UnknownEndpoint", "UnknownSink", "UnsupportedPlatform", "UsageError",
        "WrongProcess", "WrongType", "WsAdapterError",
    ),
}  # fmt: skip
_MODULES = {"config", "testing"}
"""The modules with public names of their own."""
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: PLE0604, PLE0605, RUF100 - each is in _MODULE_OF, which a test compares with the imports above
    "AllFatal", "AlreadyRunning", "Answer", "AnyEvent", "AsyncFeed", "attach", "AttachedFeed", "Batch", "Buffer", "BufferTable",
    "Capabilities", "ClockStep", "ClosedError", "ConcurrentIteration", "ConfigError", "ConsumerInUse", "ConsumerLag",
    "ConsumerReplaced", "ConsumerStatus", "Down", "Dropped", "DuplicateEndpoint", "DuplicateRequest", "Endpoint",
    "EndpointPosition", "EndpointState", "EndpointStatus", "Event", "ExitStatus", "Fatal", "Feed", "FeedStream", "Filter",
    "FilterTable", "Gap", "Heartbeat", "HeartbeatTable", "HooksTable", "Item", "Journal", "JournalError", "JournalInUse",
    "JournalStatus", "LateAnswer", "Limits", "LimitsTable", "load", "LostError", "MemberStatus", "Message", "Monitor",
    "MonitorReleased", "NewerJournal", "NotAJournal", "NotConnected", "Notice", "NotSent", "OtherWriter", "OutcomeUnknown",
    "Pending", "Pool", "PoolMemberStatus", "PoolStatus", "Position", "PositionBeyondEnd", "Reason", "Rejected", "Request",
    "RequestRejected", "RequestTable", "Restart", "RestartTable", "Restored", "SendFailed", "Settings", "Sink", "SinkBatch",
    "SinkError", "SinkRecord", "SinkStatus", "Stalled", "Started", "Status", "Stream", "Subscribed", "SubscriptionStatus",
    "Supervisor", "SupervisorStopped", "TakeoverError", "TargetFull", "TargetRefused", "TargetUnavailable", "Timeouts",
    "TimeoutsTable",
    "Tls", "TlsTable", "UnknownConsumer", "UnknownEndpoint", "UnknownSink", "UnsupportedPlatform", "Up", "UsageError",
    "Watchdog", "WatchdogTable", "WrongProcess", "WrongType", "WsAdapterError", "ControlError", "NoAnswer", "NotRunning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("wsadapter.version").VERSION
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsadapter' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    """What users import; not the modules of the package that happen to be loaded, but for those that are public."""
    loaded = globals()
    return sorted({*(name for name in loaded if name.startswith("__")), "__version__", *__all__, *(_MODULES & loaded.keys())})
