"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake in the user's input, told as: expected, found, where, and what mends it.

    The edge of a stage prints it on one line without a traceback and exits with status 2.
    """
