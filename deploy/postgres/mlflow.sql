-- Run by PostgreSQL's image when its volume is new. The server's own database,
-- loopbook, has the prediction log, the features and the calibration states.
CREATE DATABASE mlflow;
