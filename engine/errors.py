"""Every error that sottovoce raises on purpose.

    SottovoceError
    ├── InputError            what a user handed in cannot be used (also a ValueError)
    │   ├── AudioError        a recording: missing, empty, truncated, silent, not audio, …
    │   ├── FeatureError      a feature array: dtype, shape, NaN, outside the declared box
    │   └── ModelError        weights or an architecture that cannot be used
    │       └── RangeProofError   the model may overflow Z_2^64; names the layer and the bits needed
    ├── ConfigError           cluster files, certificates, command-line combinations
    ├── TransportError        a message could not be exchanged
    │   ├── HandshakeError    a peer is not who, or does not run what, was expected
    │   ├── FrameError        bytes that are not a valid frame: malformed, oversized, out of order
    │   ├── DeadlineError     a peer did not answer in time (also a TimeoutError)
    │   └── PeerClosedError   a peer went away (also a ConnectionError)
    ├── DeviceMemoryError     a GPU has no room for what is asked of it (also a MemoryError)
    ├── PreprocessingError    correlated randomness: too little, of another model or partner, used up, damaged
    ├── ProtocolError         our own side would break a protocol rule
    │   └── MaskReuseError    a keystream position was asked for twice
    └── SecurityAbort         a check against a cheating party failed; nothing was opened

A message names the party, the operation, what was expected and what was got. It never contains
a feature, a weight, a share or a key.
"""

from __future__ import annotations


class SottovoceError(Exception):
    """Base of all errors below."""


class InputError(SottovoceError, ValueError):
    """What a user handed in cannot be used."""


class AudioError(InputError):
    """A recording cannot be used."""


class FeatureError(InputError):
    """A feature array cannot be used."""


class ModelError(InputError):
    """A model cannot be used."""


class RangeProofError(ModelError):
    """The compiler cannot prove that a layer stays inside the ring's range promise."""


class ConfigError(SottovoceError, ValueError):
    """A configuration file, a certificate folder or an option cannot be used."""


class TransportError(SottovoceError):
    """A message could not be exchanged with a peer."""


class HandshakeError(TransportError):
    """A peer is not who, or does not run what, this side expects."""


class FrameError(TransportError):
    """A peer sent bytes that are not the frame this side must get now."""


class DeadlineError(TransportError, TimeoutError):
    """A peer did not answer before the deadline."""


class PeerClosedError(TransportError, ConnectionError):
    """A peer closed the connection, or its process is gone."""


class DeviceMemoryError(SottovoceError, MemoryError):
    """A device has no room for a batch or a model; the text has the numbers."""


class PreprocessingError(SottovoceError):
    """Correlated randomness cannot be used: there is too little, it belongs to others, was used, or is damaged."""


class ProtocolError(SottovoceError):
    """This side was about to break a rule of the protocol: a bug, never a peer's doing."""


class MaskReuseError(ProtocolError):
    """A keystream position was asked for twice; a reused mask would reveal the difference of two secrets."""


class SecurityAbort(SottovoceError):
    """A consistency check failed: somebody cheated. Nothing was opened; every share of the session is erased."""
