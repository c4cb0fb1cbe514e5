"""The one exception that a user can cause."""


class UserError(ValueError):
    """A mistake in the data, the params or the environment.

    The text is one line that names the file, row or param and what to do. The command line prints it and exits
    with 1; any other exception is a bug and keeps its traceback.
    """
