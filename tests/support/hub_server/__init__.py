"""A Hugging Face Hub on this machine, for the real client: models, LFS without Xet, and faults.

    with Hub() as hub:
        hub.create("org/name", {"config.json": b"{}"})
        hub.inject(Fault("PUT", "/storage/*", Cut(after=1000)))
        subprocess.run(program, env=hub.environment(home))
        hub.repo("org/name").files("main")["model.safetensors"].sha256

Not here: other types of repositories, Xet, deletions, merging, uploads in parts.
"""

from .faults import ALWAYS, Cut, Effect, Fault, Flip, LostAnswer, NoRange, Slow, Status
from .messages import Request
from .policy import READER, STRANGER, WRITER, User
from .repo import Blob, Commit, Discussion, Repo
from .server import Hub

__all__ = [
    "ALWAYS",
    "READER",
    "STRANGER",
    "WRITER",
    "Blob",
    "Commit",
    "Cut",
    "Discussion",
    "Effect",
    "Fault",
    "Flip",
    "Hub",
    "LostAnswer",
    "NoRange",
    "Repo",
    "Request",
    "Slow",
    "Status",
    "User",
]
