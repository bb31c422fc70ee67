"""The streams and subjects of a cluster, and how a place in the log is numbered."""

from typing import Any, NamedTuple

DUPLICATE_WINDOW = 120
"""Seconds for which servers know the ids of messages."""
HEAD_ROOM = 64 * 1024
"""Bytes of a message beside the largest body of a request."""
INDEX_BITS = 8
MAX_ROWS = 1 << INDEX_BITS
"""Entries of one frame."""


def seq_of(message: int, index: int) -> int:
    """Return the seq of an entry: number *index* of the frame at sequence *message* of the log."""
    return message << INDEX_BITS | index


def message_of(seq: int) -> int:
    """Return the sequence of the frame that holds an entry."""
    return seq >> INDEX_BITS


def index_of(seq: int) -> int:
    """Return the index of an entry in its frame."""
    return seq & (MAX_ROWS - 1)


class Layout(NamedTuple):
    """The names of one cluster's streams and subjects; ``name`` begins all of them."""

    name: str

    @property
    def log_stream(self) -> str:
        """Return the stream of the frames."""
        return f"{self.name}_LOG"

    @property
    def config_stream(self) -> str:
        """Return the stream of what all gateways agree on, and of the paused destinations."""
        return f"{self.name}_CONFIG"

    @property
    def state_stream(self) -> str:
        """Return the stream of journals, dead letters and copies of waiting entries."""
        return f"{self.name}_STATE"

    @property
    def consent_stream(self) -> str:
        """Return the stream of users' consent."""
        return f"{self.name}_CONSENT"

    @property
    def paused(self) -> str:
        """Return the subject of the paused destinations, which has one message."""
        return f"{self.name}.paused"

    @property
    def identity(self) -> str:
        """Return the subject of what all gateways agree on."""
        return f"{self.name}.identity"

    @property
    def presence(self) -> str:
        """Return the subject of signs of life, which no stream stores."""
        return f"{self.name}.presence"

    def questions(self, node: str) -> str:
        """Return the subject of questions to a gateway, which no stream stores."""
        return f"{self.name}.admin.{node}"

    def peer(self, node: str) -> str:
        """Return the subject of questions to a gateway that concern no shard."""
        return f"{self.name}.peer.{node}"

    def log(self, shard: int) -> str:
        """Return the subject of a shard's frames."""
        return f"{self.name}.log.{shard}"

    @property
    def logs(self) -> str:
        """Return the subjects of all shards' frames."""
        return f"{self.name}.log.*"

    def journal(self, shard: int) -> str:
        """Return the subject of a shard's journal."""
        return f"{self.name}.state.{shard}"

    def dead_letters(self, shard: int) -> str:
        """Return the subject of a shard's dead letters."""
        return f"{self.name}.dead.{shard}"

    def letters_shard(self, subject: str) -> int | None:
        """Return the shard whose dead letters have a subject; None for another subject."""
        start, _, shard = subject.rpartition(".")
        return int(shard) if start == f"{self.name}.dead" else None

    def consent(self, user: bytes) -> str:
        """Return the subject of a user's consent, which has one message."""
        return f"{self.name}.consent.{user.hex()}"

    @property
    def consents(self) -> str:
        """Return the subjects of all users' consent."""
        return f"{self.name}.consent.*"

    def waiting(self, shard: int, seq: int | str = "*") -> str:
        """Return the subject of an entry's copy, which stays when the log is trimmed."""
        return f"{self.name}.waiting.{shard}.{seq}"

    def streams(self, replicas: int, max_bytes: int | None = None) -> dict[str, dict[str, Any]]:
        """Return the settings of each stream; *max_bytes* limits the log."""
        common = {
            "num_replicas": replicas,
            "storage": "file",
            "discard": "new",
            "allow_direct": True,
            "allow_atomic": True,
            "duplicate_window": DUPLICATE_WINDOW * 1_000_000_000,
        }
        state = [f"{self.name}.{kind}" for kind in ("state.*", "dead.*", "waiting.*.*")]
        return {
            self.config_stream: common | {"subjects": [self.identity, self.paused]},
            self.log_stream: common | {"subjects": [self.logs], "max_bytes": max_bytes or -1},
            self.state_stream: common | {"subjects": state},
            self.consent_stream: common
            | {
                "subjects": [self.consents],
                "max_msgs_per_subject": 1,
                "allow_msg_ttl": True,
            },
        }
