"""What does a package do on a device that Core ML runs on?  Times, memory, energy, placement, and what it answers.

`local` measures on this Mac, `phone` on a tethered iPhone, `agreement` compares Core ML's answers with the executor's;
`records` is the form in which measurements are kept. Nothing here runs off macOS.
"""
