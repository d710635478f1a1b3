"""The one exception that is meant for people.

Every refusal of bad input is a `UserError`: one or two lines that say the rule, what came, and the way out.
The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input, told as: the rule, what came, the way out."""
