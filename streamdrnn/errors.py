"""Errors that a user can put right. The command line prints them in one line, and any other as a bug of ours."""


class InputError(ValueError):
    """A user's option, file, recording, model or data set is refused; the message is one line that says why."""


class ResourceError(OSError):
    """A file, a device or a server that the user named cannot be used; the message is one line that says why."""
