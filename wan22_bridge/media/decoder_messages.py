"""Messages between the service and a decoder.

The service sends a request as JSON with two descriptors, of the file and of a pipe for the answers. The child of the
decoder that decodes the file writes its answers to the pipe. The decoder reports the child's exit code.
"""

import struct

READY = b"ready"
"""First message of a decoder."""
MAX_MESSAGE_BYTES = 2**16
"""Maximum size of every message that is not a frame."""
HEADER = struct.Struct("<cQ")
"""Kind and size of an answer, before its content."""
FRAME = b"F"
"""The RGB pixels of a frame."""
RESULT = b"R"
"""The end of the answers, as a JSON object."""
INVALID = b"I"
"""The error in the file, as the JSON object of `Wan22Error.to_dict`."""
FAULT = b"X"
"""An unexpected error, as text for the log."""
NO_MEMORY = b"M"
"""The file needs more memory than the limit."""
