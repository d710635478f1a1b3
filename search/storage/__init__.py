"""Where several machines keep one study, and what they know of each other's work.

`address` names the place and hides its password; `opening` opens it, `patience` waits for it while it is away;
`agreement` holds every machine to the same question; `lease` tells who is still alive, `peers` what they do and what
becomes of the work of those that are not; `machine` is what a run folder remembers of all that.
"""
