"""loopbook turns notebooks into a pipeline that trains, serves, monitors and retrains a model."""
