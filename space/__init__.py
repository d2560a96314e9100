"""A page in the browser, and the folder that goes to the Hub as a Space; see `app.py`."""
