"""This project's prediction service: loopbook's, with the routes of `serving.routes`."""
