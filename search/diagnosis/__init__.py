"""What went wrong, and what to try: one file for each failure, `examine.py` asks them all."""
