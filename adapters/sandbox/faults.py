"""Faults of a cloud, on demand: what the real one has been seen to do and a test cannot wait for."""

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """What goes wrong next. Counters are used up, one a request; the rest stays until it is set back. Nothing is wrong at first."""

    creates_break: int = 0
    """POST answers 500, and the name is reserved all the same: later creates answer 409, and no list shows an image."""
    creates_fall_silent: int = 0
    """POST is carried out, and its connection is cut before the answer."""
    throttled: int = 0
    """Any request answers 429 with Retry-After of `retry_after_s`."""
    retry_after_s: float = 1.0
    broken: int = 0
    """Any request answers 502 with a page of HTML."""
    unseen: int = 0
    """GET of an image by its id answers 404."""
    import_s: float = 0.0
    """An import takes at least so long, in seconds."""
    import_fails: bool = False
    """An import ends as importing_error, whatever it found."""
    status: str | None = None
    """What GET by id says in place of the status."""
    launches_break: int = 0
    """POST of an instance answers 500, and no instance is made."""
    launches_fall_silent: int = 0
    """POST of an instance is carried out, and its connection is cut before the answer."""
    launch_status: str | None = None
    """The status with which an instance fails, before anything of it is booted: "creating_error_quota_vcpu" …"""
    unfiltered: bool = False
    """Lists hold images of every name, whatever name was asked for."""
    echo: bool = False
    """POST answers 400 with a message that repeats the whole request."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def use_up(self, counter: str) -> bool:
        """Whether this fault is due now; it is one nearer to its end then."""
        with self._lock:
            left = int(getattr(self, counter))
            if left > 0:
                setattr(self, counter, left - 1)
            return left > 0
