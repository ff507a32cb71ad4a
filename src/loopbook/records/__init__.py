"""Records: what builds, monitored windows and turns of the loop leave behind.

It decides where a record lies and how it is read by batch, service and pages
alike. It never judges: the words and numbers in a record are others'.
"""
